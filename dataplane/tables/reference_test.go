package tables

import (
	"maps"
	"net/netip"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// The reference says straight from a snapshot what may become of a connection:
// no ids, no tables, no slots. It is written from the rules that users know,
// not from the plan.

// destination is what somebody dials.
type destination struct {
	address  netip.Addr
	port     uint16
	protocol state.Protocol
}

// outcome is what may come of it: an endpoint, or a reason without one.
type outcome struct {
	reason   bpf.Reason
	endpoint netip.AddrPort
}

func (o outcome) String() string {
	if o.endpoint.IsValid() {
		return o.reason.String() + " " + o.endpoint.String()
	}
	return o.reason.String()
}

// portion is an outcome's share: part of whole.
type portion struct{ part, whole uint64 }

// expect returns every possible outcome of a connection that a client in a
// namespace makes, with the exact share of each.
func expect(s *state.Snapshot, namespace string, to destination) (map[outcome]portion, *state.Service) {
	svc := owner(s, namespace, to)
	if svc == nil {
		svc = owner(s, "", to)
	}
	if svc == nil {
		return map[outcome]portion{{reason: bpf.ReasonNotService}: {1, 1}}, nil
	}
	backends := portOf(svc, to).Clusters
	var total uint64
	for _, w := range backends {
		total += uint64(w.Weight)
	}
	if total == 0 {
		return map[outcome]portion{{reason: bpf.ReasonWeightsZero}: {1, 1}}, svc
	}
	// Shares are counted in parts that every weight and every number of
	// endpoints divides.
	parts := uint64(1)
	for _, w := range backends {
		if endpoints, _ := choose(s, w.Cluster, to.address); w.Weight > 0 && len(endpoints) > 0 {
			parts = lcm(parts, uint64(len(endpoints)))
		}
	}
	all := map[outcome]portion{}
	add := func(o outcome, part uint64) {
		all[o] = portion{all[o].part + part, total * parts}
	}
	for _, w := range backends {
		if w.Weight == 0 {
			continue
		}
		endpoints, reason := choose(s, w.Cluster, to.address)
		if len(endpoints) == 0 {
			add(outcome{reason: reason}, uint64(w.Weight)*parts)
		}
		for e := range endpoints {
			add(outcome{bpf.ReasonBalanced, e}, uint64(w.Weight)*parts/uint64(len(endpoints)))
		}
	}
	return all, svc
}

func lcm(a, b uint64) uint64 {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// owner is the Service that has an address and port, for the clients of one
// namespace (or for everybody): the first one by name.
func owner(s *state.Snapshot, scope string, to destination) *state.Service {
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		svc := s.Services[name]
		if svc.Scope == scope && slices.Contains(svc.Addresses, to.address) && portOf(&svc, to) != nil {
			return &svc
		}
	}
	return nil
}

// portOf is the first port with this number and protocol.
func portOf(svc *state.Service, to destination) *state.Port {
	for i, p := range svc.Ports {
		if p.Port == to.port && p.Protocol == to.protocol {
			return &svc.Ports[i]
		}
	}
	return nil
}

// choose returns the endpoints of a cluster that this node may use for clients
// that dialled an address, and the reason when there is none.
func choose(s *state.Snapshot, cluster string, address netip.Addr) (map[netip.AddrPort]bool, bpf.Reason) {
	if cluster == "" {
		return nil, bpf.ReasonBackendMissing
	}
	c := s.Clusters[cluster]
	var ready, draining []state.Endpoint
	for _, e := range c.Endpoints {
		switch {
		case e.Address.Addr().Is4() != address.Is4():
		case c.Locality == state.OnlySameNode && e.Node != s.Node.Name:
		case e.Draining:
			draining = append(draining, e)
		default:
			ready = append(ready, e)
		}
	}
	usable := ready
	if len(usable) == 0 {
		usable = draining
	}
	here := only(usable, func(e state.Endpoint) bool { return e.Node == s.Node.Name })
	near := only(usable, func(e state.Endpoint) bool { return s.Node.Zone != "" && e.Zone == s.Node.Zone })
	switch {
	case c.Locality == state.PreferSameNode && len(here) > 0:
		usable = here
	case (c.Locality == state.PreferSameNode || c.Locality == state.PreferSameZone) && len(near) > 0:
		usable = near
	}
	all := map[netip.AddrPort]bool{}
	for _, e := range usable {
		all[e.Address] = true
	}
	if c.Locality == state.OnlySameNode {
		return all, bpf.ReasonNoLocalEndpoint
	}
	return all, bpf.ReasonNoEndpoint
}

func only(endpoints []state.Endpoint, keep func(state.Endpoint) bool) []state.Endpoint {
	return slices.DeleteFunc(slices.Clone(endpoints), func(e state.Endpoint) bool { return !keep(e) })
}
