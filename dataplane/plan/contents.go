package plan

import (
	"net/netip"

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
	Endpoints []bpf.EndpointVal // in slot order
}

// Broken is the flag of a cluster that was read with a count beyond its
// slots. No plan wants it, so Diff writes the cluster again.
const Broken bpf.ClusterFlag = 1 << 31

// SetClusters fills in Clusters and Strays from elements of hd_clusters and
// hd_endpoints as they were read.
func (c *Contents) SetClusters(clusters map[uint64]bpf.ClusterVal, slots map[bpf.EndpointKey]bpf.EndpointVal) {
	c.Clusters = make(map[uint64]Cluster, len(clusters))
	c.Strays = map[bpf.EndpointKey]bpf.EndpointVal{}
	for id, val := range clusters {
		cluster := Cluster{Flags: val.Flags}
		for n := range val.Count {
			e, ok := slots[bpf.EndpointKey{Cluster: id, Index: n}]
			if !ok {
				cluster.Flags |= Broken
				break
			}
			cluster.Endpoints = append(cluster.Endpoints, e)
		}
		c.Clusters[id] = cluster
	}
	for key, e := range slots {
		if int(key.Index) >= len(c.Clusters[key.Cluster].Endpoints) {
			c.Strays[key] = e
		}
	}
}

// Pod is an enrolled pod of this node.
type Pod struct {
	Namespace, Name string
	Netns           uint64 // cookie of its network namespace
	Ifindex         uint32 // host side of its interface; 0: none
	Addresses       []netip.Addr
	Fast            bool // its packets may skip the stack
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
