package bpf_test

import (
	"math/bits"

	"heddle.io/heddle/bpf"
)

// tables is what the maps hold.
type tables struct {
	pods      map[uint64]bpf.PodVal
	own       map[uint64]uint8
	services  map[bpf.ServiceKey]bpf.ServiceVal
	splits    map[uint64]bpf.SplitVal
	clusters  map[uint64]bpf.ClusterVal
	endpoints map[bpf.EndpointKey]bpf.EndpointVal
	members   map[bpf.MemberKey]bpf.MemberVal
	affinity  map[bpf.AffinityKey]bpf.AffinityVal
	loads     map[uint64]bpf.LoadVal
	outliers  map[bpf.OutlierKey]bpf.OutlierVal
}

// decide is the decision in Go: a straight reading of the rules, against which
// the one in the kernel is compared.
func (t *tables) decide(in bpf.ConnectIn) bpf.ConnectOut {
	none := bpf.ConnectOut{Column: bpf.None, Index: bpf.None}
	pod, enrolled := t.pods[in.Netns]
	if !enrolled {
		return conclude(none, bpf.ReasonNotEnrolled)
	}
	if _, own := t.own[in.Cgroup]; own {
		return conclude(none, bpf.ReasonOwnSocket)
	}
	if in.Proto != tcp && in.Proto != udp {
		return conclude(none, bpf.ReasonProtocol)
	}
	out := none
	rnd := in.Rnd
	for range 3 {
		out = t.attempt(in, pod.Scope, rnd)
		if out.Reason != bpf.ReasonTableRace {
			break
		}
		rnd = bits.RotateLeft64(rnd, 21)
	}
	return out
}

const (
	tcp = 6
	udp = 17
)

func conclude(out bpf.ConnectOut, reason bpf.Reason) bpf.ConnectOut {
	out.Reason = reason
	switch reason {
	case bpf.ReasonNotEnrolled, bpf.ReasonOwnSocket, bpf.ReasonProtocol, bpf.ReasonNotService:
		out.Verdict = bpf.VerdictPass
	case bpf.ReasonBalanced, bpf.ReasonAffinity:
		out.Verdict = bpf.VerdictTranslate
	default:
		out.Verdict = bpf.VerdictRefuse
	}
	return out
}

func (t *tables) attempt(in bpf.ConnectIn, podScope, rnd uint64) bpf.ConnectOut {
	out := bpf.ConnectOut{Column: bpf.None, Index: bpf.None}

	key := bpf.ServiceKey{Addr: in.Addr, PortBe: in.PortBe, Proto: in.Proto}
	service, ok := t.services[key]
	if !ok {
		return conclude(out, bpf.ReasonNotService)
	}
	if service.Flags&bpf.ServiceScoped != 0 {
		key.Scope = podScope
		if scoped, ok := t.services[key]; ok {
			service, out.Scope = scoped, podScope
		} else if service.Flags&bpf.ServiceVariants != 0 {
			return conclude(out, bpf.ReasonNotService)
		}
	}
	out.Service, out.AffinityS = service.Service, service.AffinityS

	if service.AffinityS > 0 {
		last, ok := t.affinity[bpf.AffinityKey{Service: service.Service, Netns: in.Netns}]
		if ok && in.NowNs < last.LastNs+uint64(service.AffinityS)*1e9 {
			member, ok := t.members[bpf.MemberKey{Service: service.Service, Addr: last.Addr, PortBe: last.PortBe}]
			if ok && sameFamily(last.Addr, in.Addr) && !t.ejected(in, member.Cluster, last.Addr, last.PortBe) {
				out.Cluster, out.Addr, out.PortBe = member.Cluster, last.Addr, last.PortBe
				if !t.policy(in, &out) {
					return conclude(out, bpf.ReasonMaxConnections)
				}
				return conclude(out, bpf.ReasonAffinity)
			}
		}
	}

	out.Cluster = service.Cluster
	if service.Split != 0 {
		split, ok := t.splits[service.Split]
		switch {
		case !ok:
			return conclude(out, bpf.ReasonTableRace)
		case split.Columns == 0 || split.Total == 0:
			return conclude(out, bpf.ReasonWeightsZero)
		case split.Columns > uint32(bpf.MaxColumns):
			return conclude(out, bpf.ReasonTableRace)
		}
		out.Column = uint32(rnd % uint64(split.Columns))
		rnd /= uint64(split.Columns)
		drawn := rnd % uint64(split.Total)
		rnd /= uint64(split.Total)
		column := split.Column[out.Column]
		if drawn >= uint64(column.Cut) {
			column = split.Column[column.Alias%uint32(bpf.MaxColumns)]
		}
		out.Cluster = column.Cluster
	}
	if out.Cluster == 0 {
		return conclude(out, bpf.ReasonBackendMissing)
	}

	cluster, ok := t.clusters[out.Cluster]
	if !ok {
		return conclude(out, bpf.ReasonNoEndpoint)
	}
	if cluster.Count == 0 {
		if cluster.Flags&bpf.ClusterLocalOnly != 0 {
			return conclude(out, bpf.ReasonNoLocalEndpoint)
		}
		return conclude(out, bpf.ReasonNoEndpoint)
	}
	if !t.policy(in, &out) {
		return conclude(out, bpf.ReasonMaxConnections)
	}
	var endpoint bpf.EndpointVal
	for i := range uint64(8) {
		out.Index = uint32(rnd % uint64(cluster.Count))
		rnd /= uint64(cluster.Count)
		endpoint, ok = t.endpoints[bpf.EndpointKey{Cluster: out.Cluster, Index: out.Index}]
		if !ok || endpoint.Cluster != out.Cluster {
			return conclude(out, bpf.ReasonTableRace)
		}
		if out.MaxFailures == 0 || !t.ejected(in, out.Cluster, endpoint.Addr, endpoint.PortBe) {
			break
		}
		rnd = (rnd + in.Rnd + i) * 0x9e3779b97f4a7c15
		rnd ^= rnd >> 32
	}
	if !sameFamily(endpoint.Addr, in.Addr) {
		return conclude(out, bpf.ReasonNoEndpoint)
	}
	out.Addr, out.PortBe = endpoint.Addr, endpoint.PortBe
	return conclude(out, bpf.ReasonBalanced)
}

// policy notes what the policy of the cluster asks of a TCP connection; false:
// there are as many as it allows.
func (t *tables) policy(in bpf.ConnectIn, out *bpf.ConnectOut) bool {
	c, ok := t.clusters[out.Cluster]
	if !ok || in.Proto != tcp {
		return true
	}
	out.ConnectTimeoutMs, out.MaxFailures, out.MaxConnections = c.ConnectTimeoutMs, c.MaxFailures, c.MaxConnections
	return c.MaxConnections == 0 || t.loads[out.Cluster].Open < int64(c.MaxConnections)
}

func (t *tables) ejected(in bpf.ConnectIn, cluster uint64, addr bpf.Addr, portBE uint16) bool {
	return t.outliers[bpf.OutlierKey{Cluster: cluster, Addr: addr, PortBe: portBE}].UntilNs > in.NowNs
}

func sameFamily(a, b bpf.Addr) bool {
	return bpf.AddrOf(a).Is4() == bpf.AddrOf(b).Is4()
}
