package node

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// permit marks the pods whose packets may skip the stack: those whose interface
// nobody else looks at. What it finds is kept until the next check.
func (l *loop) permit(pods []plan.Pod) []plan.Pod {
	l.lookAround(pods)
	for i := range pods {
		p := &pods[i]
		p.Fast = l.slow(p.Ifindex) == ""
		p.Tracked = p.Fast && l.tracking
	}
	return pods
}

// lookAround finds out who else looks at the packets of pods.
func (l *loop) lookAround(pods []plan.Pod) {
	if !l.n.kernel.HasFastPath() {
		return
	}
	l.tracking = l.tracking || l.n.kernel.Tracking()
	var unknown []uint32
	for _, p := range pods {
		if _, known := l.barred[p.Ifindex]; (!known || l.stale) && p.Ifindex != 0 {
			unknown = append(unknown, p.Ifindex)
		}
	}
	if l.stale {
		maps.DeleteFunc(l.barred, func(ifindex uint32, _ string) bool { return !slices.Contains(unknown, ifindex) })
		l.stale = false
	}
	if unknown == nil {
		return
	}
	found, err := l.n.kernel.Foreign(unknown)
	for _, ifindex := range unknown {
		_, known := l.barred[ifindex]
		switch {
		case err != nil && known: // what was found before holds until the next look
		case err != nil:
			l.barred[ifindex] = fmt.Sprintf("it is not known who else looks at its packets: %v", err)
		case found[ifindex] != "":
			l.barred[ifindex] = found[ifindex]
		default:
			l.barred[ifindex] = ""
		}
	}
}

// slow says why packets of an interface always take the stack; empty when they
// need not.
func (l *loop) slow(ifindex uint32) string {
	switch {
	case ifindex == 0:
		return "it has no interface on the node"
	case !l.n.kernel.HasFastPath():
		return "the fast path is off on this node, see heddlectl status"
	}
	return l.barred[ifindex]
}

// revoked notes the interfaces that lose with want what their connections on
// the fast path were based on: the permission, an address, or the pod.
func (l *loop) revoked(want *plan.Contents) {
	for ifindex, now := range l.current.Ifaces {
		if now.Flags&bpf.IfaceFast != 0 && !keeps(now, want.Ifaces[ifindex]) {
			l.leaving[ifindex] = true
		}
	}
}

func keeps(now, next bpf.IfaceVal) bool {
	if next.Flags&bpf.IfaceFast == 0 || next.Netns != now.Netns {
		return false
	}
	for _, a := range now.Addr[:now.AddrCount] {
		if !slices.Contains(next.Addr[:next.AddrCount], a) {
			return false
		}
	}
	return true
}

// sweepFastPath looks after the connections that are on the fast path.
func (l *loop) sweepFastPath() {
	err := l.n.kernel.SweepFastPath(time.Now(), func(ifindex uint32) bool {
		return l.current.Ifaces[ifindex].Flags&bpf.IfaceFast != 0
	})
	if err != nil {
		l.n.c.Log.Warn("connections on the fast path cannot be looked after; it is tried again", "error", err)
	}
}

// leaveFastPath takes connections off the fast path once the tables say that no
// new ones may come.
func (l *loop) leaveFastPath() {
	for ifindex := range l.leaving {
		if err := l.n.kernel.LeaveFastPath(ifindex); err != nil {
			l.broken = append(l.broken, plan.Problem{
				Object: fmt.Sprintf("interface %d", ifindex), Reason: "FastPathNotLeft",
				Detail: err.Error() + "; it is tried again",
			})
			continue
		}
		delete(l.leaving, ifindex)
	}
}
