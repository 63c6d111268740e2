package enroll

import (
	"fmt"
	"net/netip"
	"slices"

	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// Standing is how a pod stands to the mesh.
type Standing int

const (
	Unknown  Standing = iota // the control plane has not named the pod
	Outside                  // not in the mesh: its traffic is left alone
	Waiting                  // in the mesh, but it cannot be programmed: its traffic is dropped
	Enrolled                 // in the mesh
)

// Member is an announced pod with what the control plane says of it.
type Member struct {
	Pod
	Standing Standing
	Reason   string // why it is not Enrolled, for people
	// Addresses are what the pod may send from. What its network plugin said
	// comes first: it is of this very sandbox. The control plane knows addresses
	// later, and after the loss of a node's power it still knows those of the
	// sandbox before; it adds to the plugin's when it names one of them as well.
	Addresses []netip.Addr
	Bypass    bool // it asks for the socket bypass
}

// Mesh reports whether the pod's interface must be guarded.
func (m Member) Mesh() bool { return m.Standing == Waiting || m.Standing == Enrolled }

// Join says how each pod stands. The result is in the order of the pods'
// names. A snapshot of nil knows nobody.
func Join(pods []Pod, s *state.Snapshot) []Member {
	members := make([]Member, 0, len(pods))
	owners := make(map[netip.Addr]string)
	// The pod that was announced first keeps an address; then by name, so that
	// the outcome does not change from one join to the next.
	slices.SortFunc(pods, func(a, b Pod) int {
		if c := a.Announced.Compare(b.Announced); c != 0 {
			return c
		}
		return compare(a, b)
	})
	for _, p := range pods {
		members = append(members, join(p, s, owners))
	}
	slices.SortFunc(members, func(a, b Member) int { return compare(a.Pod, b.Pod) })
	return members
}

func join(p Pod, s *state.Snapshot, owners map[netip.Addr]string) Member {
	m := Member{Pod: p}
	var w state.Workload
	known := false
	if s != nil {
		w, known = s.Workloads[p.Key()]
	}
	m.Addresses, m.Bypass = addresses(p.Addresses, w.Addresses), w.SocketBypass
	switch {
	case !known:
		m.Reason = "the control plane does not know this pod on this node"
	case p.UID != "" && w.UID != "" && p.UID != w.UID:
		m.Addresses, m.Bypass = nil, false
		m.Reason = fmt.Sprintf("the control plane knows another pod of this name (uid %s, this one is %s)", w.UID, p.UID)
	case w.HostNetwork:
		m.Standing, m.Reason = Outside, "it shares the node's network, which is never captured"
	case !w.Mesh:
		m.Standing, m.Reason = Outside, "neither its namespace nor the pod is labelled heddle.io/mesh=enabled"
	case len(m.Addresses) == 0:
		m.Standing, m.Reason = Waiting, "the control plane knows no address of it yet"
	default:
		m.Standing = Enrolled
		for _, a := range m.Addresses {
			if owner, taken := owners[a]; taken {
				m.Standing, m.Reason = Waiting, fmt.Sprintf("its address %s belongs to pod %s already; remove one of them", a, owner)
				return m
			}
		}
		for _, a := range m.Addresses {
			owners[a] = p.Key()
		}
	}
	return m
}

// addresses joins those of the network plugin with those of the control plane.
func addresses(plugin, control []netip.Addr) []netip.Addr {
	if len(plugin) == 0 {
		return control
	}
	same := slices.ContainsFunc(control, func(a netip.Addr) bool { return slices.Contains(plugin, a) })
	if !same {
		return plugin
	}
	all := slices.Clone(plugin)
	for _, a := range control {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// Plan returns the pods to program.
func Plan(members []Member) []plan.Pod {
	var out []plan.Pod
	for _, m := range members {
		if m.Standing == Enrolled {
			out = append(out, plan.Pod{
				Namespace: m.Namespace, Name: m.Name,
				Netns: m.Cookie, Ifindex: m.Ifindex, Addresses: m.Addresses, Bypass: m.Bypass,
			})
		}
	}
	return out
}

// Problems names the pods whose traffic is dropped because they cannot be
// programmed, and those that ran before they were.
func Problems(members []Member) []plan.Problem {
	var out []plan.Problem
	for _, m := range members {
		if m.Late && m.Mesh() {
			out = append(out, plan.Problem{Object: "Pod " + m.Key(), Reason: "StartedOutsideChain",
				Detail: "it started without the CNI plugin, so it ran outside the mesh until the agent found it; " +
					"something had replaced the CNI configuration of this node. Restart the pod to be sure that no connection of it is from that time"})
		}
		if m.Standing == Waiting {
			reason := "PodNotProgrammed"
			if len(m.Addresses) > 0 {
				reason = plan.ReasonDuplicateAddress
			}
			out = append(out, plan.Problem{Object: "Pod " + m.Key(), Reason: reason, Detail: m.Reason + "; its traffic is dropped until then"})
		}
	}
	return out
}
