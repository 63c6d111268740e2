package plan

import (
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// target is a kernel cluster that a service port refers to.
type target struct {
	id      uint64
	ref     clusterRef
	flags   bpf.ClusterFlag
	policy  state.Policy
	slots   []bpf.EndpointVal
	planned bool // its place is taken
}

// resolve finds the clusters of an offer and what of the connections each
// gets.
func (b *builder) resolve(o *offer) {
	o.shares = make([]share, 0, len(o.port.Backends))
	o.uses = make([]*target, 0, len(o.port.Backends))
	var total uint64
	for i := range o.port.Backends {
		backend := &o.port.Backends[i]
		var id uint64
		if t := b.target(o, backend.Cluster); t != nil {
			id = t.id
			if !slices.Contains(o.uses, t) {
				o.uses = append(o.uses, t)
			}
		}
		backend.IDs[family(o.v6)] = id
		if backend.Weight > 0 {
			o.shares = append(o.shares, share{id, backend.Weight})
			total += uint64(backend.Weight)
		}
	}
	object := "Service " + o.port.Resource
	switch {
	case len(o.shares) > bpf.MaxColumns:
		o.port.broken = true
		b.problem(object, ReasonTooManyBackends,
			"port %d/%s has %d backends, at most %d are possible; its connections are refused",
			o.port.Port, o.port.Protocol, len(o.shares), bpf.MaxColumns)
	case total > MaxTotal:
		o.port.broken = true
		b.problem(object, ReasonWeightsTooLarge,
			"the weights of port %d/%s sum up to %d, at most %d is possible; its connections are refused",
			o.port.Port, o.port.Protocol, total, uint64(MaxTotal))
	}
	if o.port.broken {
		o.shares = nil
	}
}

// target returns the cluster of a backend, nil when the backend is missing.
// A cluster that the control plane has not sent is planned without endpoints:
// its connections are refused until it arrives.
func (b *builder) target(o *offer, cluster string) *target {
	if cluster == "" {
		return nil
	}
	ref := clusterRef{cluster, o.v6}
	id := b.id("cluster", cluster+suffix(o.v6))
	t := b.targets[id]
	if t == nil {
		t = b.newTarget(id, ref)
		if _, known := b.snapshot.Clusters[cluster]; !known {
			b.problem("Cluster "+cluster, ReasonClusterUnknown,
				"Service %s refers to it but the control plane has not sent it", o.port.Resource)
		}
	}
	if t.ref != ref {
		b.problem("Service "+o.port.Resource, ReasonIDCollision,
			"cluster %s has the same id as cluster %s; its share is refused, rename one of them", cluster, t.ref.name)
		return nil
	}
	return t
}

func (b *builder) newTarget(id uint64, ref clusterRef) *target {
	t := &target{id: id, ref: ref}
	if c, ok := b.snapshot.Clusters[ref.name]; ok {
		if c.Locality == state.OnlySameNode {
			t.flags = bpf.ClusterLocalOnly
		}
		t.policy = c.Policy
		b.scratch = usable(b.scratch[:0], b.snapshot.Node, &c, ref.v6, id)
		t.slots = place(b.current.Clusters[id].Endpoints, b.scratch)
	}
	b.targets[id] = t
	return t
}

// need is the room that a cluster takes beyond what it has.
func (b *builder) need(t *target) room {
	now, programmed := b.current.Clusters[t.id]
	n := room{endpoints: max(0, len(t.slots)-len(now.Endpoints))}
	if !programmed {
		n.clusters = 1
	}
	return n
}

// use plans a cluster. When a programmed cluster cannot grow as far as it
// should, it uses as many of its endpoints as there is room for: each of them
// is right, and the others are missed less than the cluster would be.
func (b *builder) use(t *target) {
	if t.planned {
		return
	}
	t.planned = true
	n := b.need(t)
	if missing := n.endpoints - max(b.room.endpoints, 0); missing > 0 {
		b.full = true
		b.problem("Cluster "+t.ref.name, ReasonMapFull, "%d of its %d endpoints are left out: %s",
			missing, len(t.slots), b.room.lacks(n))
		t.slots = b.subset(t, len(t.slots)-missing)
		n = b.need(t)
	}
	b.room.take(n)
	b.out.Clusters[t.id] = Cluster{Flags: t.flags, Policy: kernelPolicy(t.policy, len(t.slots)), Endpoints: t.slots}
	b.index.clusters[t.id] = t.ref
}

// kernelPolicy is a policy for a cluster of so many endpoints.
func kernelPolicy(p state.Policy, endpoints int) Policy {
	return Policy{
		ConnectTimeoutMs: uint32(p.ConnectTimeout.Milliseconds()),
		MaxConnections:   p.MaxConnections,
		MaxFailures:      p.MaxFailures,
		EjectionMs:       uint32(p.Ejection.Milliseconds()),
		MaxEjected:       uint32(uint64(endpoints) * uint64(p.MaxEjectionPercent) / 100),
	}
}

// subset takes n endpoints of a cluster, those first that have a slot already.
func (b *builder) subset(t *target, n int) []bpf.EndpointVal {
	now := b.current.Clusters[t.id].Endpoints
	kept := slices.Clone(t.slots)
	slices.SortFunc(kept, func(x, y bpf.EndpointVal) int {
		switch inX, inY := slices.Contains(now, x), slices.Contains(now, y); {
		case inX && !inY:
			return -1
		case inY && !inX:
			return 1
		}
		return byAddress(x, y)
	})
	kept = kept[:n]
	slices.SortFunc(kept, byAddress)
	return place(now, kept)
}

func family(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}
