package node

import (
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/attach"
	"heddle.io/heddle/dataplane/plan"
)

// bypassOff is the value of --socket-bypass that lets no socket join.
const bypassOff = "off"

// switched shows the socket bypass as off also when it was switched off.
func (n *Node) switched(f attach.Feature) attach.Feature {
	if f.Name == attach.SocketBypass && f.On && n.c.SocketBypass == bypassOff {
		f.On, f.Reason = false, "the agent runs with --socket-bypass=off; connections that are in the bypass stay until they are closed"
	}
	return f
}

// noBypass says why no pod of this node may join the socket bypass; empty when
// those may that ask for it.
func (n *Node) noBypass() string {
	for _, f := range n.kernel.Features() {
		if f = n.switched(f); f.Name == attach.SocketBypass && !f.On {
			return f.Reason
		}
	}
	return ""
}

// offerBypass takes the word for the bypass from pods that cannot have it, and
// puts in force what guards bypassed sockets before a pod may have one.
func (l *loop) offerBypass(pods []plan.Pod) {
	asked := false
	possible := l.n.noBypass() == ""
	for i := range pods {
		pods[i].Bypass = pods[i].Bypass && possible
		asked = asked || pods[i].Bypass
	}
	if !asked || l.bypass {
		return
	}
	if err := l.n.kernel.SetBypass(true); err != nil {
		for i := range pods {
			pods[i].Bypass = false
		}
		l.broken = append(l.broken, plan.Problem{
			Object: "socket bypass", Reason: "BypassNotAttached",
			Detail: err.Error() + "; connections stay on TCP, and it is tried again",
		})
		return
	}
	l.bypass = true
}

// checkBypass repairs or ends what guards bypassed sockets, by what the tables
// hold, and forgets the shares of pods that have left the bypass.
func (l *loop) checkBypass() {
	asked := len(l.current.Bypass) > 0
	if err := l.n.kernel.SetBypass(asked); err != nil {
		l.n.c.Log.Warn("programs of the socket bypass cannot be attached or detached", "error", err)
	}
	l.bypass = asked
	err := l.n.tables.SweepShares(func(netns uint64) bool { return l.current.Pods[netns].Flags&bpf.PodBypass != 0 })
	if err != nil {
		l.n.c.Log.Warn("shares of the socket bypass cannot be swept", "error", err)
	}
}

// bypass says whether a pod's connections may be bypassed, and why not.
func (s *now) bypass(m member) string {
	joins := s.view != nil && s.view.Contents.Pods[m.Cookie].Flags&bpf.PodBypass != 0
	switch {
	case s.noBypass != "" && joins:
		return "being switched off: " + s.noBypass
	case !m.Bypass:
		return "off: not asked for; label this pod and those it talks to heddle.io/socket-bypass=enabled (no other value counts, and not on a namespace)"
	case s.noBypass != "":
		return "off: " + s.noBypass
	case !s.programmed(m):
		return "off: the pod is not captured"
	case joins:
		return "on, with the pods of this node that ask for it too"
	}
	for _, p := range s.problems {
		if p.Object == "socket bypass" {
			return "off: " + p.Detail
		}
	}
	return "off: it is being programmed"
}
