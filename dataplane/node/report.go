package node

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/plan"
)

// publish replaces what others see by what the loop has brought about.
func (l *loop) publish(members []member) {
	for i := range members {
		members[i].slow = l.slow(members[i].Ifindex)
	}
	next := &now{view: l.view, members: members, plan: l.plan, noBypass: l.n.noBypass(), cached: l.update.FromCache}
	for _, list := range [][]plan.Problem{l.problems, l.broken, l.drifted(), l.lostPods()} {
		for _, p := range list {
			next.problems = append(next.problems, api.Problem{Object: p.Object, Reason: p.Reason, Detail: p.Detail})
		}
	}
	if l.plan.Error != "" {
		next.problems = append(next.problems, api.Problem{Object: "kernel tables", Reason: "PlanNotApplied",
			Detail: "the plan before stays in force, and it is tried again: " + l.plan.Error})
	}
	l.n.dated(append(l.n.live(), next.problems...))
	l.n.replace(next)
}

// live are the problems of those that work beside the loop: of what comes from
// the control plane, of the way to it, of running pods, of the CNI plugin.
func (n *Node) live() []api.Problem {
	out := append(n.feed.Problems(), n.finder.Problems()...)
	if n.chain != nil {
		out = append(out, n.chain.Problems()...)
	}
	if n.c.TLSErr == nil {
		return out
	}
	if err := n.c.TLSErr(); err != nil {
		out = append(out, api.Problem{Object: "certificate", Reason: "CertificateUnusable",
			Detail: fmt.Sprintf("%v; the one before stays in use until it expires", err)})
	}
	return out
}

// lostPods reminds of a list of pods that could not be read at start.
func (l *loop) lostPods() []plan.Problem {
	if l.lost == nil {
		return nil
	}
	return []plan.Problem{{Object: "state directory", Reason: "PodListLost",
		Detail: fmt.Sprintf("%v; running pods were found again in the kernel's tables, pods announced while no table named them must be announced again", l.lost)}}
}

func (n *Node) replace(next *now) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.now = next
	close(n.mu.changed)
	n.mu.changed = make(chan struct{})
}

// seen returns what is in force, and a channel that is closed when that is
// replaced.
func (n *Node) seen() (*now, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.now, n.mu.changed
}

// View implements admin.Node.
func (n *Node) View() *admin.View {
	s, _ := n.seen()
	return s.view
}

// Status implements admin.Node.
func (n *Node) Status() api.AgentStatus {
	s, _ := n.seen()
	status := api.AgentStatus{
		Node: n.c.Node, Zone: n.c.Zone, Version: n.c.Version,
		Started: n.started, Kernel: n.release,
		Feed: n.feed.Status(), Plan: s.plan,
		Problems: n.dated(append(n.live(), s.problems...)),
	}
	if status.Zone == "" && s.view != nil {
		status.Zone = s.view.Snapshot.Node.Zone
	}
	status.Mechanisms = n.mechanisms()
	for _, f := range n.kernel.Features() {
		f = n.switched(f)
		status.Features = append(status.Features, api.Feature{Name: f.Name, On: f.On, Reason: f.Reason})
	}
	for _, m := range s.members {
		if s.programmed(m) {
			status.Pods++
		}
	}
	return status
}

// maxAlike is how many problems of one reason are worth reading.
const maxAlike = 200

// bounded leaves out what is only more of the same: when a table is full, every
// service that does not fit is a problem.
func bounded(problems []api.Problem) []api.Problem {
	count := make(map[string]int)
	problems = slices.DeleteFunc(problems, func(p api.Problem) bool {
		count[p.Reason]++
		return count[p.Reason] > maxAlike
	})
	for _, reason := range slices.Sorted(maps.Keys(count)) {
		if more := count[reason] - maxAlike; more > 0 {
			problems = append(problems, api.Problem{
				Object: "agent", Reason: "TooManyProblems",
				Detail: fmt.Sprintf("%d more of reason %s are not shown; correct those that are first", more, reason),
			})
		}
	}
	return problems
}

// dated bounds the problems and fills in since when each is known. The list is
// complete: what is not in it is over.
func (n *Node) dated(problems []api.Problem) []api.Problem {
	problems = bounded(problems)
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.mu.since
	n.mu.since = make(map[api.Problem]time.Time, len(problems))
	for i, p := range problems {
		p.Detail, p.Since = "", time.Time{} // numbers in it change while the problem stays
		since, ok := known[p]
		if !ok {
			since = time.Now()
		}
		n.mu.since[p] = since
		problems[i].Since = since
	}
	return problems
}

// Pods implements admin.Node.
func (n *Node) Pods() []api.Pod {
	s, _ := n.seen()
	out := make([]api.Pod, 0, len(s.members))
	for _, m := range s.members {
		out = append(out, s.pod(m))
	}
	return out
}

// programmed reports whether a pod's connections are captured and its traffic
// passes.
func (s *now) programmed(m member) bool {
	if s.view == nil || m.Standing != enroll.Enrolled || m.mode == "" {
		return false
	}
	p, ok := s.view.Contents.Pods[m.Cookie]
	return ok && p.Ifindex == m.Ifindex && s.view.Contents.Ifaces[m.Ifindex].Netns == m.Cookie
}

func (s *now) pod(m member) api.Pod {
	p := api.Pod{
		Namespace: m.Namespace, Name: m.Name, Reason: m.Reason,
		Enrolled: s.programmed(m), Netns: m.Cookie, Interface: m.Interface, Ifindex: m.Ifindex, Mode: m.mode, FastPathOff: m.slow,
	}
	for _, a := range m.Addresses {
		p.Addresses = append(p.Addresses, a.String())
	}
	p.Bypass = s.bypass(m)
	if !p.Enrolled && p.Reason == "" {
		p.Reason = s.obstacle(m)
	}
	return p
}

// obstacle says why a pod of the mesh is not programmed.
func (s *now) obstacle(m member) string {
	for _, p := range s.problems {
		if p.Object == "Pod "+m.Key() || p.Reason == "PlanNotApplied" {
			return p.Detail
		}
	}
	return "it is being programmed"
}

// Decide implements admin.Node.
func (n *Node) Decide(in bpf.ConnectIn) (bpf.ConnectOut, error) { return n.kernel.Decide(in) }

// Forget implements admin.Node. It returns when the pod's interface is free
// and its entries are gone, or when ctx ends.
func (n *Node) Forget(ctx context.Context, r api.PodRequest) (bool, error) {
	gone := enroll.Pod{Namespace: r.Namespace, Name: r.Name, UID: r.UID, Netns: r.Netns}
	found, err := n.pods.Forget(gone)
	if !found || err != nil {
		return found, err
	}
	key := gone.Key()
	for {
		s, changed := n.seen()
		m, listed := s.member(key)
		if again, known := n.pods.Find(r.Namespace, r.Name); !listed || known && m.Cookie == again.Cookie {
			return true, nil // it is gone, or was announced anew meanwhile
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return true, &admin.Failure{Status: http.StatusGatewayTimeout, Err: fmt.Errorf("pod %s is forgotten, but its entries are not removed yet: %w", key, ctx.Err())}
		}
	}
}

func (s *now) member(key string) (member, bool) {
	for _, m := range s.members {
		if m.Key() == key {
			return m, true
		}
	}
	return member{}, false
}
