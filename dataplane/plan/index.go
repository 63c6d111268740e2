package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// Index says in names what Build planned in numbers. It is not changed after
// Build returned it, and safe for concurrent use.
type Index struct {
	Ports []*ServicePort // in order of resource, then port

	snapshot *state.Snapshot
	contents *Contents
	services map[uint64]*ServicePort
	clusters map[uint64]clusterRef
	scopes   map[uint64]string
}

// ServicePort is one programmed port of a Service resource.
type ServicePort struct {
	Resource               string // xDS resource name
	Namespace, Name, Scope string
	Port                   uint16
	PortName               string
	Protocol               state.Protocol
	Route                  string
	AffinitySeconds        uint32
	Addresses              []netip.Addr // those that clients can dial
	IDs                    [2]uint64    // kernel service ids for IPv4 and IPv6; 0: not programmed
	Backends               []Backend

	// Held says that the tables are too full for the present backends: the
	// kernel still has those from before, or refuses the share of some.
	Held bool

	broken bool // its backends cannot be programmed: all its connections are refused
}

// Backend is one weighted cluster of a service port.
type Backend struct {
	Backend string // what the user wrote
	Cluster string // xDS resource name; empty when it does not exist
	Weight  uint32
	Share   float64   // of the connections, 0 to 1
	IDs     [2]uint64 // kernel cluster ids for IPv4 and IPv6; 0: missing, or family not programmed
	Problem string    // reason code when its share is refused in every address family
}

// Endpoint is an endpoint of a cluster and whether this node uses it.
type Endpoint struct {
	state.Endpoint
	Used bool
}

// clusterRef is a cluster of the snapshot in one address family.
type clusterRef struct {
	name string
	v6   bool
}

// Service returns the port with this kernel service id, nil when there is none.
func (x *Index) Service(id uint64) *ServicePort { return x.services[id] }

// Cluster returns the resource name of the cluster with this kernel id.
func (x *Index) Cluster(id uint64) (name string, v6, ok bool) {
	ref, ok := x.clusters[id]
	return ref.name, ref.v6, ok
}

// Name is the name that was hashed to this kernel id, empty when unknown.
func (x *Index) Name(id uint64) string {
	if p := x.services[id]; p != nil {
		port := state.Port{Port: p.Port, Protocol: p.Protocol}
		svc := state.Service{Namespace: p.Namespace, Name: p.Name, Scope: p.Scope}
		return serviceName(&svc, &port, p.IDs[1] == id)
	}
	if ref, ok := x.clusters[id]; ok {
		return ref.name + suffix(ref.v6)
	}
	return x.scopes[id]
}

// Endpoints returns the endpoints of the cluster with this kernel id, in its
// address family, in the order of the control plane.
func (x *Index) Endpoints(id uint64) []Endpoint {
	ref, ok := x.clusters[id]
	if !ok {
		return nil
	}
	used := map[netip.AddrPort]bool{}
	for _, e := range x.contents.Clusters[id].Endpoints {
		used[netip.AddrPortFrom(bpf.AddrOf(e.Addr), bpf.Port(e.PortBe))] = true
	}
	var all []Endpoint
	for _, e := range x.snapshot.Clusters[ref.name].Endpoints {
		if inFamily(e.Address.Addr(), ref.v6) {
			at := netip.AddrPortFrom(e.Address.Addr().Unmap(), e.Address.Port())
			all = append(all, Endpoint{Endpoint: e, Used: used[at]})
		}
	}
	return all
}

// finish fills in what is known only when everything was planned.
func (x *Index) finish() {
	slices.SortFunc(x.Ports, (*ServicePort).Compare)
	for _, p := range x.Ports {
		// IPv4 first, whichever family was programmed first.
		slices.SortStableFunc(p.Addresses, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
		for i := range p.Backends {
			p.Backends[i].Problem = x.refusal(p, &p.Backends[i])
		}
	}
}

// Compare orders ports as Index.Ports does.
func (p *ServicePort) Compare(o *ServicePort) int {
	return cmp.Or(cmp.Compare(p.Resource, o.Resource), cmp.Compare(p.Port, o.Port), cmp.Compare(p.Protocol, o.Protocol))
}

// weightless says whether every backend has weight 0.
func (p *ServicePort) weightless() bool {
	return !slices.ContainsFunc(p.Backends, func(b Backend) bool { return b.Weight > 0 })
}

// refusal is the reason code with which connections to a backend are refused;
// empty when an address family has an endpoint.
func (x *Index) refusal(p *ServicePort, b *Backend) string {
	switch {
	case p.weightless():
		return bpf.ReasonWeightsZero.String()
	case p.broken:
		return bpf.ReasonBackendMissing.String()
	}
	reason := bpf.ReasonBackendMissing
	for _, id := range b.IDs {
		if id == 0 {
			continue
		}
		c := x.contents.Clusters[id]
		switch {
		case len(c.Endpoints) > 0:
			return ""
		case c.Flags&bpf.ClusterLocalOnly != 0:
			reason = bpf.ReasonNoLocalEndpoint
		default:
			reason = bpf.ReasonNoEndpoint
		}
	}
	return reason.String()
}
