package plan

import (
	"iter"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// admit plans what there is room for: first the services for everybody, then
// the variants, which are reached through those or need an entry of their own
// in their place.
func (b *builder) admit(offers []*offer) {
	variants := slices.IndexFunc(offers, func(o *offer) bool { return o.port.Scope != "" })
	if variants < 0 {
		variants = len(offers)
	}
	b.admitAll(offers[:variants])
	b.admitAll(offers[variants:])
}

// admitAll plans first the ports that are programmed, then, Service by
// Service, the new ones.
func (b *builder) admitAll(offers []*offer) {
	var fresh []*offer
	for _, o := range offers {
		switch {
		case !b.programmed(o):
			fresh = append(fresh, o)
		case b.room.lacks(b.needs([]*offer{o}, false)) == "":
			b.commit(o)
		default:
			b.hold(o)
		}
	}
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && fresh[n].port.Resource == fresh[0].port.Resource {
			n++
		}
		b.admitNew(fresh[:n])
		fresh = fresh[n:]
	}
}

// admitNew plans the new ports of one Service, all or none.
func (b *builder) admitNew(group []*offer) {
	if lack := b.room.lacks(b.needs(group, true)); lack != "" {
		b.full = true
		b.problem("Service "+group[0].port.Resource, ReasonMapFull, "not programmed: %s", lack)
		return
	}
	for _, o := range group {
		b.commit(o)
	}
}

// programmed says whether the kernel has this port at one of its addresses.
func (b *builder) programmed(o *offer) bool {
	return slices.ContainsFunc(o.keys, func(key bpf.ServiceKey) bool { return b.reached(o, key) })
}

// reached says whether the kernel finds this port at an address: a variant
// only behind an entry for everybody.
func (b *builder) reached(o *offer, key bpf.ServiceKey) bool {
	val, ok := b.current.Services[key]
	key.Scope = 0
	_, first := b.current.Services[key]
	return ok && val.Service == o.id && first
}

// needs is the room that ports take beyond what they have. The growth of
// programmed clusters and the members belong to the whole only: without them
// a port works, with fewer endpoints or less stickiness.
func (b *builder) needs(group []*offer, whole bool) room {
	var n room
	var counted []*target
	for _, o := range group {
		for _, key := range o.keys {
			if _, ok := b.current.Services[key]; !ok {
				n.services++
			}
			if first, missing := b.first(key); missing {
				if _, ok := b.current.Services[first]; !ok {
					n.services++
				}
			}
		}
		if _, ok := b.current.Splits[o.id]; !ok && o.splits() {
			n.splits++
		}
		if whole {
			for member := range b.members(o) {
				if _, ok := b.current.Members[member]; !ok {
					n.members++
				}
			}
		}
		for _, t := range o.uses {
			if t.planned || slices.Contains(counted, t) {
				continue
			}
			counted = append(counted, t)
			if c := b.need(t); whole || c.clusters > 0 {
				n.clusters += c.clusters
				n.endpoints += c.endpoints
			}
		}
	}
	return n
}

// splits says whether the port needs an alias table. One backend alone does
// not; no backend of weight above 0 does: an empty table is how the kernel
// knows that reason.
func (o *offer) splits() bool {
	return !o.port.broken && len(o.shares) != 1 && len(o.port.Backends) > 0
}

// commit plans a port that there is room for.
func (b *builder) commit(o *offer) {
	val := bpf.ServiceVal{Service: o.id, AffinityS: o.port.AffinitySeconds}
	switch {
	case o.splits():
		val.Split = o.id
		b.out.Splits[o.id] = alias(o.shares)
		if _, ok := b.current.Splits[o.id]; !ok {
			b.room.splits--
		}
	case len(o.shares) == 1:
		val.Cluster = o.shares[0].cluster
	}
	for _, t := range o.uses {
		b.use(t)
	}
	b.publish(o, val)
}

// hold keeps a programmed port as it is, because its present backends do not
// fit. The endpoints of the backends that it keeps are still updated. Only
// when one of those does not exist any more, the port is turned to the present
// ones, as far as they fit: that also makes room.
func (b *builder) hold(o *offer) {
	b.full = true
	lack := b.room.lacks(b.needs([]*offer{o}, false))
	o.port.Held = true
	o.keys = slices.DeleteFunc(o.keys, func(key bpf.ServiceKey) bool { return !b.reached(o, key) })
	val := b.current.Services[o.keys[0]]
	val.Flags &^= bpf.ServiceScoped
	shares := b.programmedShares(val)
	if slices.ContainsFunc(shares, b.lost) {
		b.problem("Service "+o.port.Resource, ReasonMapFull, "port %d/%s refuses the share of backends that do not fit: %s",
			o.port.Port, o.port.Protocol, lack)
		b.reduce(o)
		b.commit(o)
		return
	}
	b.problem("Service "+o.port.Resource, ReasonMapFull, "port %d/%s keeps the backends it had: %s",
		o.port.Port, o.port.Protocol, lack)
	o.shares = shares
	for _, s := range shares {
		if s.cluster != 0 {
			b.use(b.targetOf(s.cluster))
		}
	}
	if split, ok := b.current.Splits[val.Split]; ok {
		b.out.Splits[val.Split] = split
	}
	b.publish(o, val)
}

// programmedShares lists the clusters that an entry of the tables leads to,
// without their weights.
func (b *builder) programmedShares(val bpf.ServiceVal) []share {
	if val.Split == 0 {
		return []share{{cluster: val.Cluster}}
	}
	split := b.current.Splits[val.Split]
	var shares []share
	for _, column := range split.Column[:min(int(split.Columns), bpf.MaxColumns)] {
		shares = append(shares, share{cluster: column.Cluster})
	}
	return shares
}

// lost says whether a programmed cluster does not exist any more.
func (b *builder) lost(s share) bool {
	return s.cluster != 0 && b.targetOf(s.cluster) == nil
}

// reduce leaves out the clusters of a port that do not fit.
func (b *builder) reduce(o *offer) {
	o.uses = slices.DeleteFunc(o.uses, func(t *target) bool {
		if n := b.need(t); t.planned || n.clusters == 0 || b.room.lacks(n) == "" {
			b.use(t)
			return false
		}
		for i := range o.shares {
			if o.shares[i].cluster == t.id {
				o.shares[i].cluster = 0
			}
		}
		return true
	})
	if _, ok := b.current.Splits[o.id]; !ok && o.splits() && b.room.splits <= 0 {
		o.port.broken, o.shares = true, nil
	}
}

// targetOf finds the cluster that a programmed port leads to by its id, nil
// when the control plane does not know it any more.
func (b *builder) targetOf(id uint64) *target {
	if t := b.targets[id]; t != nil {
		return t
	}
	if b.byID == nil {
		b.byID = map[uint64]clusterRef{}
		for name := range b.snapshot.Clusters {
			for _, v6 := range [...]bool{false, true} {
				b.byID[b.id("cluster", name+suffix(v6))] = clusterRef{name, v6}
			}
		}
	}
	ref, ok := b.byID[id]
	if !ok {
		return nil
	}
	return b.newTarget(id, ref)
}

// publish makes a port whose clusters are planned known to clients.
func (b *builder) publish(o *offer, val bpf.ServiceVal) {
	left := 0
	for member, val := range b.members(o) {
		if _, twice := b.out.Members[member]; twice {
			continue
		}
		if _, ok := b.current.Members[member]; !ok {
			if b.room.members <= 0 {
				left++
				continue
			}
			b.room.members--
		}
		b.out.Members[member] = val
	}
	if left > 0 {
		b.full = true
		b.problem("Service "+o.port.Resource, ReasonMapFull,
			"clients are not kept at %d of the endpoints of port %d/%s: %s",
			left, o.port.Port, o.port.Protocol, b.room.lacks(room{members: left}))
	}
	for _, key := range o.keys {
		if first, missing := b.first(key); missing {
			b.enter(first, bpf.ServiceVal{Flags: bpf.ServiceVariants})
		}
		b.enter(key, val)
		o.port.Addresses = append(o.port.Addresses, bpf.AddrOf(key.Addr))
	}
	if o.port.IDs == [2]uint64{} { // its first address family
		b.index.Ports = append(b.index.Ports, o.port)
	}
	o.port.IDs[family(o.v6)] = o.id
	b.index.services[o.id] = o.port
}

// first returns the entry for everybody that the kernel reads before a
// variant, and whether no Service has it: then one stands there that leads to
// variants alone.
func (b *builder) first(variant bpf.ServiceKey) (key bpf.ServiceKey, missing bool) {
	key = variant
	key.Scope = 0
	_, planned := b.out.Services[key]
	return key, variant.Scope != 0 && !planned
}

func (b *builder) enter(key bpf.ServiceKey, val bpf.ServiceVal) {
	if _, ok := b.current.Services[key]; !ok {
		b.room.services--
	}
	b.out.Services[key] = val
}

// members lists the endpoints that the kernel may keep a client of this port
// at: those that it could draw. Only services with affinity and UDP services
// have members. An endpoint of two backends comes twice, the first one counts.
func (b *builder) members(o *offer) iter.Seq2[bpf.MemberKey, bpf.MemberVal] {
	return func(yield func(bpf.MemberKey, bpf.MemberVal) bool) {
		if o.port.AffinitySeconds == 0 && o.port.Protocol != state.UDP {
			return
		}
		for _, s := range o.shares {
			if s.cluster == 0 {
				continue
			}
			for _, e := range b.targets[s.cluster].slots {
				key := bpf.MemberKey{Service: o.id, Addr: e.Addr, PortBe: e.PortBe}
				if !yield(key, bpf.MemberVal{Cluster: s.cluster}) {
					return
				}
			}
		}
	}
}
