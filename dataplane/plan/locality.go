package plan

import (
	"bytes"
	"cmp"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// unusable is the rank of an endpoint that must not be used at all.
const unusable = 255

// rank orders the endpoints of a cluster as this node prefers them: only
// those of the lowest rank are used. A ready endpoint anywhere comes before a
// draining one nearby, as in kube-proxy.
func rank(n state.Node, l state.Locality, e *state.Endpoint) uint8 {
	var distance uint8
	sameNode := e.Node == n.Name
	sameZone := e.Zone == n.Zone && n.Zone != "" // a node that does not know its zone has no neighbours
	switch l {
	case state.PreferSameNode:
		switch {
		case sameNode:
			distance = 0
		case sameZone:
			distance = 1
		default:
			distance = 2
		}
	case state.PreferSameZone:
		if !sameZone {
			distance = 1
		}
	case state.OnlySameNode:
		if !sameNode {
			return unusable
		}
	}
	if e.Draining {
		distance += 3
	}
	return distance
}

// usable appends to buf the endpoints of a cluster that this node sends
// connections to, of one address family, in order of address and without
// duplicates. The id is repeated in every one of them.
func usable(buf []bpf.EndpointVal, n state.Node, c *state.Cluster, v6 bool, id uint64) []bpf.EndpointVal {
	best := uint8(unusable)
	for i := range c.Endpoints {
		if e := &c.Endpoints[i]; inFamily(e.Address.Addr(), v6) {
			best = min(best, rank(n, c.Locality, e))
		}
	}
	if best == unusable {
		return buf
	}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		if inFamily(e.Address.Addr(), v6) && rank(n, c.Locality, e) == best {
			buf = append(buf, bpf.EndpointVal{
				Addr: bpf.AddrFrom(e.Address.Addr()), PortBe: bpf.PortBE(e.Address.Port()), Cluster: id,
			})
		}
	}
	if !slices.IsSortedFunc(buf, byAddress) {
		slices.SortFunc(buf, byAddress)
	}
	return slices.Compact(buf)
}

func byAddress(a, b bpf.EndpointVal) int {
	if c := bytes.Compare(a.Addr.B[:], b.Addr.B[:]); c != 0 {
		return c
	}
	return cmp.Compare(bpf.Port(a.PortBe), bpf.Port(b.PortBe))
}

// place gives every wanted endpoint a slot, so that as few slots as possible
// differ from the current ones: an endpoint keeps its slot, a new one takes
// the slot of one that is gone, and when the cluster shrinks the last ones
// fill the gaps. wanted is in order of address. When nothing differs the
// result is current itself, by which Diff sees at once that it is the same.
func place(current, wanted []bpf.EndpointVal) []bpf.EndpointVal {
	if slices.Equal(current, wanted) {
		return current
	}
	slots := make([]bpf.EndpointVal, len(wanted))
	filled := make([]bool, len(wanted))
	placed := make([]bool, len(wanted))
	for i := range min(len(current), len(slots)) {
		at, found := slices.BinarySearchFunc(wanted, current[i], byAddress)
		if found && !placed[at] {
			slots[i], filled[i], placed[at] = wanted[at], true, true
		}
	}
	gap := 0
	for at := range wanted {
		if placed[at] {
			continue
		}
		for filled[gap] {
			gap++
		}
		slots[gap], filled[gap] = wanted[at], true
	}
	if slices.Equal(current, slots) {
		return current
	}
	return slots
}
