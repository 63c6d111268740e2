package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/feed"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// loop keeps the kernel agreed with the control plane and the announced pods.
// One goroutine owns it: everything below is read and written there alone, and
// what others may see is published in Node.mu.now.
type loop struct {
	n *Node

	update   feed.Update                    // Snapshot is nil before the first
	current  *plan.Contents                 // of the kernel's tables, as far as known
	modes    map[uint32]string              // how interfaces are attached, by ifindex
	barred   map[uint32]string              // why an interface has no fast path; empty: it has
	leaving  map[uint32]bool                // interfaces whose connections must leave the fast path
	tracking bool                           // conntrack was seen in use
	stale    bool                           // barred is to be found out again
	records  map[admin.PortKey]admin.Record // replaced, not changed: views share it
	plan     api.Plan

	planner plan.Planner
	index   *plan.Index // of the plan in force; nil before the first
	view    *admin.View // what is published; nil before the first state

	found     bool      // the tables were programmed when the agent started
	graceEnds time.Time // until then, a state from disk does not replace them
	retry     time.Duration
	drift     *drift
	bypass    bool  // what guards bypassed sockets is in force
	lost      error // the list of pods, at start

	policy    *state.PodStart            // as written for the CNI plugin; nil: not yet
	held      map[uint32]bool            // interfaces that it holds back; nil: to be found out
	standings map[uint32]enroll.Standing // of the pods when held was found out

	trigger  time.Time      // arrival of the oldest change that is not in force
	problems []plan.Problem // of the last plan
	broken   []plan.Problem // of interfaces, at the last attempt
}

// drift is a difference that a check found.
type drift struct {
	at     time.Time
	detail string
}

// member is a pod with what became of it in the kernel.
type member struct {
	enroll.Member
	mode string // how its interface is attached; empty: not
	slow string // why its packets never skip the stack; empty: they may
}

func newLoop(n *Node, contents *plan.Contents) *loop {
	return &loop{
		n: n, current: contents,
		modes:     make(map[uint32]string),
		barred:    make(map[uint32]string),
		leaving:   make(map[uint32]bool),
		records:   make(map[admin.PortKey]admin.Record),
		found:     len(contents.Services)+len(contents.Pods) > 0,
		graceEnds: time.Now().Add(cacheGrace),
	}
}

func (l *loop) run(ctx context.Context) {
	again := time.NewTimer(0) // the pods are known even before the first state
	check := time.NewTimer(checkEvery)
	defer again.Stop()
	defer check.Stop()
	for {
		l.trigger = time.Time{}
		select {
		case <-ctx.Done():
			return
		case u := <-l.n.feed.Updates():
			l.take(u)
		case <-l.n.pods.Changed():
		case <-again.C:
		case <-check.C:
			check.Reset(l.check())
		}
		l.drain()
		start := time.Now()
		if wait := l.reconcile(); wait > 0 {
			again.Reset(wait)
		}
		if !gather(ctx, min(time.Since(start), maxGap)) {
			return
		}
	}
}

// drain takes what arrived meanwhile, so that one plan covers it.
func (l *loop) drain() {
	select {
	case u := <-l.n.feed.Updates():
		l.take(u)
	default:
	}
	select {
	case <-l.n.pods.Changed():
	default:
	}
	if l.trigger.IsZero() {
		l.trigger = time.Now()
	}
}

func (l *loop) take(u feed.Update) {
	l.update = u
	if l.trigger.IsZero() {
		l.trigger = u.Arrived
	}
}

// gather pauses for as long as the last round took: under a stream of changes,
// half of the time at most goes into planning. It is false when ctx ended.
func gather(ctx context.Context, pause time.Duration) bool {
	if pause < time.Millisecond {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// reconcile brings the kernel to the present state and pods. It returns after
// which time to try again; 0: when something changes.
func (l *loop) reconcile() time.Duration {
	snapshot := l.update.Snapshot
	if snapshot == nil {
		// Nothing is taken from the kernel before a state is known.
		l.publish(l.join(nil))
		return 0
	}
	snapshot = l.placed(snapshot)
	l.broken = nil
	if wait := time.Until(l.graceEnds); wait > 0 && l.update.FromCache && l.found {
		l.explain(snapshot)
		return wait
	}
	l.keepPolicy(snapshot.Node.PodStart)
	l.n.pods.Resolve(snapshot)
	members := l.join(snapshot)
	l.release(members)
	l.guard(members, l.beforeProgramming)
	err := l.program(snapshot, members)
	l.n.feed.Applied(l.update.Seq, l.incomplete(err))
	l.leaveFastPath()
	if err == nil {
		l.guard(members, func(*member) bool { return true })
		l.lift(members)
	}
	l.publish(members)
	if err != nil || len(l.broken) > 0 {
		l.retry = min(max(2*l.retry, firstRetry), lastRetry)
		return l.retry
	}
	l.retry = 0
	return 0
}

// incomplete returns why the state is not in force as a whole: err, or that not
// all of it fits.
func (l *loop) incomplete(err error) error {
	if err != nil {
		return err
	}
	lacking := make(feed.Incomplete)
	for _, p := range l.problems {
		if name, ok := strings.CutPrefix(p.Object, "Service "); ok && p.Reason == plan.ReasonMapFull {
			lacking[name] = p.Detail
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return lacking
}

// explain publishes what the tables hold in the words of a state that is not
// put in force.
func (l *loop) explain(s *state.Snapshot) {
	members := l.join(s)
	l.guard(members, l.programmed)
	_, index, _ := plan.Build(s, nil, l.n.limits(), l.current)
	l.view = &admin.View{Snapshot: s, Contents: l.current, Index: index}
	l.publish(members)
}

// placed overrides the zone by the configured one.
func (l *loop) placed(s *state.Snapshot) *state.Snapshot {
	if l.n.c.Zone == "" {
		return s
	}
	placed := *s
	placed.Node.Zone = l.n.c.Zone
	return &placed
}

func (l *loop) join(s *state.Snapshot) []member {
	joined := enroll.Join(l.n.pods.Pods(), s)
	members := make([]member, len(joined))
	for i, m := range joined {
		members[i] = member{Member: m, mode: l.modes[m.Ifindex]}
	}
	return members
}

// beforeProgramming decides which interfaces are attached before the tables
// are written. A pod that is being announced has not started: its interface
// must not pass anything until it is programmed. A pod that was running before
// its namespace got the label would only lose packets by that.
func (l *loop) beforeProgramming(m *member) bool {
	return l.programmed(m) || l.n.isWaiting(m.Key())
}

func (l *loop) programmed(m *member) bool {
	_, ok := l.current.Pods[m.Cookie]
	return ok
}

// guard attaches to the interfaces of the pods in the mesh that when selects.
// Attaching again is cheap and repairs what somebody removed.
func (l *loop) guard(members []member, when func(*member) bool) {
	for i := range members {
		m := &members[i]
		if !m.Mesh() || m.mode != "" || !when(m) {
			continue
		}
		mode, err := l.attach(m)
		if err != nil {
			// A programmed pod stays so: to take it out of the tables would
			// let its connections around the mesh.
			if !l.programmed(m) {
				m.Standing, m.Reason = enroll.Waiting, err.Error()
			}
			l.broken = append(l.broken, plan.Problem{
				Object: "Pod " + m.Key(), Reason: "InterfaceNotAttached",
				Detail: fmt.Sprintf("%v; it is tried again", err),
			})
			continue
		}
		l.modes[m.Ifindex], m.mode = mode, mode
	}
}

// attach guards the interface of a pod, and no other that took its name.
func (l *loop) attach(m *member) (mode string, err error) {
	ifindex, mode, err := l.n.kernel.AttachIface(m.Interface)
	if err != nil || ifindex == m.Ifindex {
		return mode, err
	}
	if _, announced := l.modes[ifindex]; !announced {
		err = l.n.kernel.DetachIface(ifindex)
	}
	return "", errors.Join(fmt.Errorf("interface %s is another one than the one announced", m.Interface), err)
}

// release detaches from the interfaces of pods that left the mesh, before
// their entries go: an interface that is attached and not programmed drops.
func (l *loop) release(members []member) {
	keep := make(map[uint32]bool)
	for _, m := range members {
		if m.Mesh() {
			keep[m.Ifindex] = true
		}
	}
	for _, ifindex := range l.n.kernel.Attached() {
		if keep[ifindex] {
			continue
		}
		if err := l.n.kernel.DetachIface(ifindex); err != nil {
			l.broken = append(l.broken, plan.Problem{
				Object: fmt.Sprintf("interface %d", ifindex), Reason: "InterfaceNotDetached",
				Detail: err.Error() + "; it is tried again",
			})
			continue
		}
		delete(l.modes, ifindex)
	}
	for i := range members {
		members[i].mode = l.modes[members[i].Ifindex]
	}
}

// program plans and applies. On failure the plan before stays in force as far
// as it was not replaced, and what the kernel has is read again.
func (l *loop) program(snapshot *state.Snapshot, members []member) error {
	joined := make([]enroll.Member, len(members))
	for i, m := range members {
		joined[i] = m.Member
	}
	pods := enroll.Plan(joined)
	l.offerBypass(pods)
	before := l.plan.Ops
	defer func() {
		if l.plan.Ops-before >= largeBatch {
			// What came and was planned all at once is garbage now, and more
			// than what stays.
			runtime.GC() // pools let go of their buffers with the second one only
			debug.FreeOSMemory()
		}
	}()
	// Removals make room for what was left out, so that takes another round.
	for rounds := 0; ; rounds++ {
		want, index, problems := l.planner.Build(snapshot, l.permit(pods), l.n.limits(), l.current)
		l.problems = append(enroll.Problems(joined), problems...)
		if err := l.apply(want); err != nil {
			return err
		}
		l.record(index)
		l.index = index
		l.view = &admin.View{Snapshot: snapshot, Contents: want, Index: index, Records: l.records}
		if !want.Deferred || rounds == maxRounds {
			return nil
		}
	}
}

// maxRounds bounds the plans for one state.
const maxRounds = 3

// largeBatch is a plan of so many operations that its garbage is worth giving
// back at once.
const largeBatch = 10_000

// apply turns the tables from current into want.
func (l *loop) apply(want *plan.Contents) error {
	ops := plan.Diff(l.current, want)
	if len(ops) == 0 {
		l.current = want
		l.plan.Error = ""
		return nil
	}
	l.revoked(want)
	done, err := l.n.tables.Apply(ops)
	l.plan.Ops += uint64(done)
	if err != nil {
		l.n.metrics.Failed(done)
		l.n.c.Log.Error("plan cannot be applied; the one before stays, and it is tried again", "done", done, "operations", len(ops), "error", err)
		l.plan.Error = err.Error()
		if found, readErr := l.n.tables.Read(); readErr == nil {
			l.current = found
		}
		return err
	}
	l.current = want
	l.plan.Error = ""
	l.plan.Applied = time.Now()
	l.plan.Batches++
	l.plan.LastOps = len(ops)
	took := time.Since(l.trigger)
	l.plan.LastTook = took.Seconds()
	l.n.metrics.Applied(took, len(ops))
	l.n.c.Log.Debug("applied", "operations", len(ops), "took", took)
	return nil
}
