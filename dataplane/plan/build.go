package plan

import (
	"net/netip"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// Build returns what the tables shall hold for a snapshot and the enrolled
// pods of this node, who is who in it, and what could not be done.
//
// current is what they hold now (nil: nothing). It decides which slot an
// endpoint gets, so that little has to change, and who stays when not
// everything fits: a programmed service port keeps its place, a new Service is
// taken in as a whole or not at all. Apart from that, the result depends on
// the snapshot, the pods and the limits only.
//
// The result shares memory with current; neither is changed afterwards.
func Build(s *state.Snapshot, pods []Pod, l Limits, current *Contents) (*Contents, *Index, []Problem) {
	return build(s, pods, l, current, id)
}

func build(s *state.Snapshot, pods []Pod, l Limits, current *Contents, id hasher) (*Contents, *Index, []Problem) {
	if current == nil {
		current = NewContents()
	}
	b := newBuilder(s, l, current, id, len(s.Clusters))
	b.admit(b.offers())
	b.flagScoped()
	b.pods(pods)
	b.index.finish()
	b.out.Deferred = b.full && leaves(current, b.out)
	return b.out, b.index, b.problems
}

// builder is one run of Build.
type builder struct {
	id       hasher
	snapshot *state.Snapshot
	current  *Contents
	room     room
	out      *Contents
	index    *Index
	problems []Problem
	full     bool // something was left out because a table is full

	targets map[uint64]*target
	byID    map[uint64]clusterRef // all clusters of the snapshot, only when a port is held
	scratch []bpf.EndpointVal
}

// newBuilder returns a builder that has planned nothing yet. clusters is how
// many there will be, about.
func newBuilder(s *state.Snapshot, l Limits, current *Contents, id hasher, clusters int) *builder {
	out := &Contents{
		Pods:     make(map[uint64]bpf.PodVal),
		Ifaces:   make(map[uint32]bpf.IfaceVal),
		Counters: make(map[uint32]bool),
		Services: make(map[bpf.ServiceKey]bpf.ServiceVal, len(s.Services)),
		Splits:   make(map[uint64]bpf.SplitVal),
		Clusters: make(map[uint64]Cluster, clusters),
		Members:  make(map[bpf.MemberKey]bpf.MemberVal),
		Bypass:   make(map[bpf.Addr]uint64, len(current.Bypass)),
	}
	return &builder{
		id:       id,
		snapshot: s,
		current:  current,
		room:     roomBeside(l, current),
		out:      out,
		index: &Index{
			snapshot: s,
			contents: out,
			services: make(map[uint64]*ServicePort, len(s.Services)),
			clusters: make(map[uint64]clusterRef, clusters),
			scopes:   map[uint64]string{},
		},
		targets: make(map[uint64]*target, clusters),
	}
}

// offer is one port of a Service in one address family: what gets a kernel
// service id if there is room.
type offer struct {
	id     uint64
	v6     bool
	port   *ServicePort
	keys   []bpf.ServiceKey
	shares []share   // of weight above 0
	uses   []*target // clusters of every weight, each once
}

// offers lists what the snapshot asks for, base services before the variants
// of some namespace, and settles who owns an address, a port and an id: the
// first by resource name.
func (b *builder) offers() []*offer {
	names := b.inOrder()
	owners := make(map[bpf.ServiceKey]string, len(names))
	ids := make(map[uint64]string, len(names))
	all := make([]*offer, 0, len(names))
	for _, resource := range names {
		svc := b.snapshot.Services[resource]
		scope, ok := b.scope(svc.Scope)
		if !ok {
			b.problem("Service "+resource, ReasonIDCollision,
				"namespace %s has the same id as namespace %s; rename one of them", svc.Scope, b.index.scopes[scope])
			continue
		}
		for i := range svc.Ports {
			port := newServicePort(resource, &svc, &svc.Ports[i])
			for _, v6 := range [...]bool{false, true} {
				keys := b.claim(owners, port, svc.Addresses, scope, v6)
				if len(keys) == 0 {
					continue
				}
				name := serviceName(&svc, &svc.Ports[i], v6)
				o := &offer{id: b.id("service", name), v6: v6, port: port, keys: keys}
				if other, taken := ids[o.id]; taken {
					b.problem("Service "+resource, ReasonIDCollision,
						"%s has the same id as %s; rename one of the services", name, other)
					continue
				}
				ids[o.id] = name
				b.resolve(o)
				all = append(all, o)
			}
		}
	}
	return all
}

// inOrder lists the services by name, variants behind all others.
func (b *builder) inOrder() []string {
	names := make([]string, 0, len(b.snapshot.Services))
	var variants []string
	for name, svc := range b.snapshot.Services {
		if svc.Scope == "" {
			names = append(names, name)
		} else {
			variants = append(variants, name)
		}
	}
	slices.Sort(names)
	slices.Sort(variants)
	return append(names, variants...)
}

func newServicePort(resource string, svc *state.Service, p *state.Port) *ServicePort {
	port := &ServicePort{
		Resource: resource, Namespace: svc.Namespace, Name: svc.Name, Scope: svc.Scope,
		Port: p.Port, PortName: p.Name, Protocol: p.Protocol, Route: p.Route,
		AffinitySeconds: svc.AffinitySeconds,
		Backends:        make([]Backend, len(p.Clusters)),
	}
	var total uint64
	for _, w := range p.Clusters {
		total += uint64(w.Weight)
	}
	for i, w := range p.Clusters {
		port.Backends[i] = Backend{Backend: w.Backend, Cluster: w.Cluster, Weight: w.Weight}
		if total > 0 {
			port.Backends[i].Share = float64(w.Weight) / float64(total)
		}
	}
	return port
}

// claim returns the keys of a port's addresses of one family that no other
// Service has.
func (b *builder) claim(owners map[bpf.ServiceKey]string, p *ServicePort, addresses []netip.Addr, scope uint64, v6 bool) []bpf.ServiceKey {
	var keys []bpf.ServiceKey
	for _, a := range addresses {
		if !inFamily(a, v6) {
			continue
		}
		key := bpf.ServiceKey{Addr: bpf.AddrFrom(a), Scope: scope, PortBe: bpf.PortBE(p.Port), Proto: uint8(p.Protocol)}
		switch owner, taken := owners[key]; {
		case !taken:
			owners[key] = p.Resource
			keys = append(keys, key)
		case owner == p.Resource && slices.Contains(keys, key):
			// The same address written twice means it once.
		case owner == p.Resource:
			b.problem("Service "+p.Resource, ReasonDuplicatePort,
				"port %d/%s is listed twice; only the first is used", p.Port, p.Protocol)
		default:
			b.problem("Service "+p.Resource, ReasonDuplicateAddress,
				"%s:%d/%s belongs to Service %s already; remove one of them", a, p.Port, p.Protocol, owner)
		}
	}
	return keys
}

// scope returns the id of a client namespace; false when another namespace
// has it.
func (b *builder) scope(namespace string) (uint64, bool) {
	if namespace == "" {
		return 0, true
	}
	id := b.id("scope", namespace)
	switch other, known := b.index.scopes[id]; {
	case !known:
		b.index.scopes[id] = namespace
	case other != namespace:
		return id, false
	}
	return id, true
}

// flagScoped marks the entries for everybody that have a variant, so that the
// kernel makes its second lookup only where it can succeed.
func (b *builder) flagScoped() {
	for key := range b.out.Services {
		if key.Scope == 0 {
			continue
		}
		key.Scope = 0
		base := b.out.Services[key]
		base.Flags |= bpf.ServiceScoped
		b.out.Services[key] = base
	}
}

// leaves says whether current has entries that are not in next.
func leaves(current, next *Contents) bool {
	return lacksKey(current.Pods, next.Pods) || lacksKey(current.Ifaces, next.Ifaces) ||
		lacksKey(current.Counters, next.Counters) || lacksKey(current.Services, next.Services) ||
		lacksKey(current.Splits, next.Splits) || lacksKey(current.Clusters, next.Clusters) ||
		lacksKey(current.Members, next.Members) || lacksKey(current.Bypass, next.Bypass) || len(current.Strays) > 0 || shrinks(current, next)
}

func shrinks(current, next *Contents) bool {
	for id, c := range current.Clusters {
		if len(c.Endpoints) > len(next.Clusters[id].Endpoints) {
			return true
		}
	}
	return false
}

func lacksKey[K comparable, V any](of, in map[K]V) bool {
	for key := range of {
		if _, ok := in[key]; !ok {
			return true
		}
	}
	return false
}
