package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"heddle.io/heddle/api/admin"
)

// carrier is the way that the bytes of a connection take.
type carrier struct {
	By      string `json:"by"` // a mechanism, or "stack"
	Because string `json:"because"`
}

// carry says which mechanism would carry a connection that the kernel lets
// pass. It is what the agent would do now: a connection can still come back to
// the stack later, with a reason that status counts.
func carry(why *admin.Why, q *whyQuestion, to netip.AddrPort, pods []admin.Pod, mechanisms []admin.Mechanism) *carrier {
	if strings.EqualFold(why.Verdict, "refuse") {
		return nil
	}
	if why.Endpoint != "" {
		if chosen, err := netip.ParseAddrPort(why.Endpoint); err == nil {
			to = chosen
		}
	}
	src := slices.IndexFunc(pods, func(p admin.Pod) bool { return p.Namespace == q.namespace && p.Name == q.pod })
	dst := slices.IndexFunc(pods, func(p admin.Pod) bool { return slices.Contains(p.Addresses, to.Addr().Unmap().String()) })
	stack := func(because string) *carrier { return &carrier{"stack", because} }
	switch {
	case src < 0:
		return nil
	case q.protocol != "tcp":
		return stack("it is not TCP")
	case dst < 0:
		return stack(to.Addr().String() + " is no pod of this node that the agent knows")
	case src == dst:
		return stack("the pod talks to itself")
	case !pods[src].Enrolled || !pods[dst].Enrolled:
		return stack("both pods have to be captured")
	}
	bypass := offBypass(mechanisms, pods[src].Bypass, pods[dst].Bypass)
	if bypass == "" {
		return &carrier{"socket_bypass", "both pods ask for it"}
	}
	if fast := offFast(mechanisms, &pods[src], &pods[dst]); fast != "" {
		return stack("no fast path: " + fast + "; no socket bypass: " + bypass)
	}
	return &carrier{"fast_path", "both pods are on this node; no socket bypass: " + bypass}
}

// offBypass says why the socket bypass does not take a connection between two
// pods, by what the agent says of each; empty: it does.
func offBypass(mechanisms []admin.Mechanism, ends ...string) string {
	if why := switchedOff(mechanisms, "socket_bypass"); why != "" {
		return why
	}
	for _, end := range ends {
		if !strings.HasPrefix(end, "on") {
			return cmp.Or(strings.TrimPrefix(end, "off: "), "not asked for")
		}
	}
	return ""
}

func offFast(mechanisms []admin.Mechanism, src, dst *admin.Pod) string {
	if why := switchedOff(mechanisms, "fast_path"); why != "" {
		return why
	}
	if src.FastPathOff != "" {
		return src.FastPathOff
	}
	return dst.FastPathOff
}

func switchedOff(mechanisms []admin.Mechanism, name string) string {
	for _, m := range mechanisms {
		if m.Name == name && m.On {
			return ""
		}
		if m.Name == name && m.Reason != "" {
			return m.Reason
		}
	}
	return "this node does not have it"
}
