package plan

import (
	"iter"
	"net/netip"
	"slices"

	"heddle.io/heddle/bpf"
)

// Contents is what the kernel's tables hold, as far as the agent decides it.
// Build makes it, tables.Read reads it back. It is not changed after that, and
// several Contents share the endpoints that they have in common.
type Contents struct {
	Pods     map[uint64]bpf.PodVal   // by network namespace cookie
	Ifaces   map[uint32]bpf.IfaceVal // by ifindex
	Counters map[uint32]bool         // ifindexes with an entry in hd_if_stats; programs cannot make one
	Services map[bpf.ServiceKey]bpf.ServiceVal
	Splits   map[uint64]bpf.SplitVal // by service id
	Clusters map[uint64]Cluster
	Members  map[bpf.MemberKey]bpf.MemberVal
	Bypass   map[bpf.Addr]uint64 // addresses of pods in the socket bypass: their namespaces' cookies

	// Slots of hd_endpoints that no cluster's count covers: left over from a
	// batch that was cut off. Build plans none.
	Strays map[bpf.EndpointKey]bpf.EndpointVal

	// Deferred says that something did not fit only because entries that this
	// plan removes still take the room: after these contents were applied,
	// build again. The reason is that Diff adds before it removes.
	Deferred bool
}

// Cluster is an element of hd_clusters with its elements of hd_endpoints.
type Cluster struct {
	Flags     bpf.ClusterFlag
	Policy    Policy
	Endpoints []bpf.EndpointVal // in slot order
}

// Policy is the part of an element of hd_clusters that a TrafficPolicy decides.
type Policy struct {
	ConnectTimeoutMs, MaxConnections, MaxFailures, EjectionMs, MaxEjected uint32
}

// val is the element of hd_clusters.
func (c Cluster) val() bpf.ClusterVal {
	return bpf.ClusterVal{
		Count: uint32(len(c.Endpoints)), Flags: c.Flags,
		ConnectTimeoutMs: c.Policy.ConnectTimeoutMs, MaxConnections: c.Policy.MaxConnections,
		MaxFailures: c.Policy.MaxFailures, EjectionMs: c.Policy.EjectionMs, MaxEjected: c.Policy.MaxEjected,
	}
}

func policyOf(v bpf.ClusterVal) Policy {
	return Policy{v.ConnectTimeoutMs, v.MaxConnections, v.MaxFailures, v.EjectionMs, v.MaxEjected}
}

// Broken is the flag of a cluster that was read with a count beyond its
// slots. No plan wants it, so Diff writes the cluster again.
const Broken bpf.ClusterFlag = 1 << 31

// maxSlots bounds the slots of one cluster that was read: a count above it is
// not ours.
const maxSlots = 1 << 16

// SetClusters fills in Clusters and Strays from elements of hd_clusters and
// hd_endpoints as they were read.
func (c *Contents) SetClusters(clusters map[uint64]bpf.ClusterVal, slots iter.Seq2[bpf.EndpointKey, bpf.EndpointVal]) {
	c.Clusters = make(map[uint64]Cluster, len(clusters))
	c.Strays = map[bpf.EndpointKey]bpf.EndpointVal{}
	for id, val := range clusters {
		cluster := Cluster{Flags: val.Flags, Policy: policyOf(val)}
		if val.Count > maxSlots {
			cluster.Flags |= Broken
		} else if val.Count > 0 {
			cluster.Endpoints = make([]bpf.EndpointVal, val.Count)
		}
		c.Clusters[id] = cluster
	}
	for key, e := range slots {
		// A slot without the id of its cluster looks below as if it were not
		// there, and is no use to the programs either.
		if to := c.Clusters[key.Cluster].Endpoints; int64(key.Index) < int64(len(to)) && e.Cluster != 0 {
			to[key.Index] = e
		} else {
			c.Strays[key] = e
		}
	}
	for id, cluster := range c.Clusters {
		n := slices.IndexFunc(cluster.Endpoints, func(e bpf.EndpointVal) bool { return e.Cluster == 0 })
		if n < 0 {
			continue
		}
		for i, e := range cluster.Endpoints[n:] {
			if e.Cluster != 0 {
				c.Strays[slot(id, n+i)] = e
			}
		}
		cluster.Flags |= Broken
		cluster.Endpoints = slices.Clip(cluster.Endpoints[:n])
		c.Clusters[id] = cluster
	}
}

// Pod is an enrolled pod of this node.
type Pod struct {
	Namespace, Name string
	Netns           uint64 // cookie of its network namespace
	Ifindex         uint32 // host side of its interface; 0: none
	Addresses       []netip.Addr
	Fast            bool // its packets may skip the stack
	Tracked         bool // conntrack is in use on the node, and has to know who skips
	Bypass          bool // its sockets may join the socket bypass
}

// NewContents returns the contents of empty tables.
func NewContents() *Contents {
	return &Contents{
		Pods:     map[uint64]bpf.PodVal{},
		Ifaces:   map[uint32]bpf.IfaceVal{},
		Counters: map[uint32]bool{},
		Services: map[bpf.ServiceKey]bpf.ServiceVal{},
		Splits:   map[uint64]bpf.SplitVal{},
		Clusters: map[uint64]Cluster{},
		Members:  map[bpf.MemberKey]bpf.MemberVal{},
		Bypass:   map[bpf.Addr]uint64{},
		Strays:   map[bpf.EndpointKey]bpf.EndpointVal{},
	}
}

// Slots is the number of entries of hd_endpoints.
func (c *Contents) Slots() int {
	n := len(c.Strays)
	for _, cluster := range c.Clusters {
		n += len(cluster.Endpoints)
	}
	return n
}

func inFamily(a netip.Addr, v6 bool) bool {
	return a.IsValid() && a.Zone() == "" && a.Unmap().Is6() == v6
}
