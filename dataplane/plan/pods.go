package plan

import (
	"cmp"
	"slices"

	"heddle.io/heddle/bpf"
)

// pods plans the enrolled pods: whose connections are captured, and what may
// pass on the host side of their interfaces. Pods that have a place keep it.
func (b *builder) pods(pods []Pod) {
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(x, y Pod) int {
		return cmp.Or(b.newcomer(x)-b.newcomer(y),
			cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	for _, p := range pods {
		b.pod(p)
	}
}

// newcomer is 0 for a pod that the tables hold, 1 for another.
func (b *builder) newcomer(p Pod) int {
	val, ok := b.current.Pods[p.Netns]
	if ok && val.Ifindex == p.Ifindex && val.Scope == b.id("scope", p.Namespace) {
		return 0
	}
	return 1
}

func (b *builder) pod(p Pod) {
	object := "Pod " + p.Namespace + "/" + p.Name
	if _, taken := b.out.Pods[p.Netns]; taken {
		b.problem(object, ReasonDuplicatePod, "another pod lives in its network namespace; it is not enrolled")
		return
	}
	if _, taken := b.out.Ifaces[p.Ifindex]; taken && p.Ifindex != 0 {
		b.problem(object, ReasonDuplicatePod, "another pod has its interface %d; it is not enrolled", p.Ifindex)
		return
	}
	need := b.podNeeds(p)
	if lack := b.room.lacks(need); lack != "" {
		b.full = true
		b.problem(object, ReasonMapFull, "it is not enrolled: %s", lack)
		return
	}
	b.room.take(need)

	scope, ok := b.scope(p.Namespace)
	if !ok {
		b.problem(object, ReasonIDCollision,
			"namespace %s has the same id as namespace %s; the pod sees no variants, rename one of them",
			p.Namespace, b.index.scopes[scope])
		scope = 0
	}
	val := bpf.PodVal{Scope: scope, Ifindex: p.Ifindex}
	if p.Bypass {
		val.Flags |= bpf.PodBypass
		b.bypass(p)
	}
	b.out.Pods[p.Netns] = val
	if p.Ifindex != 0 {
		b.out.Ifaces[p.Ifindex] = b.iface(object, p)
		b.out.Counters[p.Ifindex] = true
	}
}

func (b *builder) podNeeds(p Pod) room {
	var n room
	if _, ok := b.current.Pods[p.Netns]; !ok {
		n.pods = 1
	}
	_, permitted := b.current.Ifaces[p.Ifindex]
	if counted := b.current.Counters[p.Ifindex]; p.Ifindex != 0 && !(permitted && counted) {
		n.ifaces = 1
	}
	return n
}

// iface lists the addresses that packets from the pod may carry, and says
// whether they may take the fast path.
func (b *builder) iface(object string, p Pod) bpf.IfaceVal {
	val := bpf.IfaceVal{Netns: p.Netns}
	if p.Fast {
		val.Flags |= bpf.IfaceFast
	}
	if p.Tracked {
		val.Flags |= bpf.IfaceTracked
	}
	for _, a := range p.Addresses {
		if !a.IsValid() || a.Zone() != "" {
			continue
		}
		if int(val.AddrCount) == bpf.MaxPodAddrs {
			b.problem(object, ReasonTooManyAddresses,
				"it has %d addresses, packets from those after the first %d are dropped", len(p.Addresses), bpf.MaxPodAddrs)
			break
		}
		val.Addr[val.AddrCount] = bpf.AddrFrom(a)
		val.AddrCount++
	}
	return val
}

// bypass lists the addresses by which other pods find this one for the socket
// bypass: those that it may use. There is room for those of every pod.
func (b *builder) bypass(p Pod) {
	for i, n := 0, 0; i < len(p.Addresses) && n < bpf.MaxPodAddrs; i++ {
		if a := p.Addresses[i]; a.IsValid() && a.Zone() == "" {
			n++
			if _, taken := b.out.Bypass[bpf.AddrFrom(a)]; !taken {
				b.out.Bypass[bpf.AddrFrom(a)] = p.Netns
			}
		}
	}
}
