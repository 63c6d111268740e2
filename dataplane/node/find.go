package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/procs"
	"heddle.io/heddle/dataplane/state"
)

// finder announces pods of this node that run and that nobody announced: those
// that ran before Heddle came, those that started while the agent was down, and
// those that the CNI plugin did not see.
type finder struct {
	n *Node

	mu struct {
		sync.Mutex
		problems []api.Problem // of the last scan
	}
}

// run looks for pods until ctx ends. A scan reads a file of every process of
// the node, so there is one only while a pod is missing.
func (f *finder) run(ctx context.Context) {
	tick := time.NewTicker(findGap)
	defer tick.Stop()
	var last string
	var scanned time.Time
	pause := findEvery
	for {
		s, _ := f.n.seen()
		missing := s.missing()
		names := strings.Join(keysOf(missing), " ")
		switch {
		case len(missing) == 0:
			f.tell(nil)
		case names != last:
			f.scan(missing)
			scanned, pause = time.Now(), findEvery
		case time.Since(scanned) >= pause:
			f.scan(missing)
			scanned, pause = time.Now(), min(2*pause, findRarely)
		}
		last = names
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// missing are the pods that the control plane names on this node, with an
// address, so they run, and that are not in the list, or in it as another pod
// of that name.
func (s *now) missing() []state.Workload {
	if s.view == nil {
		return nil
	}
	known := make(map[string]string, len(s.members))
	for _, m := range s.members {
		known[m.Key()] = m.UID
	}
	var out []state.Workload
	for key, w := range s.view.Snapshot.Workloads {
		uid, listed := known[key]
		another := uid != "" && uid != w.UID
		if !w.HostNetwork && w.UID != "" && len(w.Addresses) > 0 && (!listed || another) {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b state.Workload) int { return strings.Compare(a.UID, b.UID) })
	return out
}

func keysOf(workloads []state.Workload) []string {
	out := make([]string, len(workloads))
	for i, w := range workloads {
		out[i] = w.UID
	}
	return out
}

// scan looks for the processes of the missing pods and announces those it finds.
func (f *finder) scan(missing []state.Workload) {
	running, err := procs.Scan()
	if err != nil {
		f.n.c.Log.Warn("running pods cannot be looked for; it is tried again", "error", err)
		return
	}
	var problems []api.Problem
	for _, w := range missing {
		p, ok := running[w.UID]
		if !ok {
			continue // it has ended, or has not begun
		}
		if err := f.announce(w, p); err != nil {
			f.n.c.Log.Debug("running pod cannot be enrolled", "pod", w.Namespace+"/"+w.Name, "error", err)
			if w.Mesh {
				problems = append(problems, api.Problem{Object: "Pod " + w.Namespace + "/" + w.Name, Reason: "PodNotEnrolled",
					Detail: err.Error() + "; it runs outside the mesh, and it is tried again"})
			}
		}
	}
	f.tell(problems)
}

// announce puts a running pod into the list, once what the machine shows is what
// the control plane says.
func (f *finder) announce(w state.Workload, p procs.Process) error {
	path, err := p.Netns()
	if err != nil {
		return err
	}
	name, has, err := netns.Holder(path, w.Addresses)
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("no interface of process %d has the address %s that the control plane names", p.PID, w.Addresses[0])
	}
	host, _, err := netns.HostSide(path, name)
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("its interface %s has no side on the node that could be guarded (it is no veth); use a CNI plugin that makes one, or take the pod out of the mesh", name)
	}
	late := f.n.startedLate(p.Started)
	_, err = f.n.pods.Announce(enroll.Pod{
		Namespace: w.Namespace, Name: w.Name, UID: w.UID, Netns: path, Interface: host, Addresses: both(has, w.Addresses), Late: late,
	})
	if err != nil {
		return err
	}
	f.n.metrics.Found(late)
	f.n.c.Log.Info("running pod found", "pod", w.Namespace+"/"+w.Name, "netns", path, "interface", host, "late", late)
	return nil
}

// startedLate reports whether a process was started while every pod should have
// been announced.
func (n *Node) startedLate(started time.Time) bool {
	if n.chain == nil {
		return false
	}
	since, ok := n.chain.Since()
	return ok && started.After(since)
}

// both returns what the two lists have.
func both(has, named []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(has, func(a netip.Addr) bool { return !slices.Contains(named, a) })
}

func (f *finder) tell(problems []api.Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.problems = problems
}

// Problems are the pods of the mesh that run outside of it.
func (f *finder) Problems() []api.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mu.problems)
}
