package plan

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"heddle.io/heddle/bpf"
)

// Op is one operation on one map: set an element, or delete it.
type Op struct {
	Map    string // one of the bpf.Map names
	Delete bool
	Insert bool // the element is not there yet
	Key    any  // uint64, uint32 or a key struct of package bpf
	Value  any  // a value struct of package bpf; nil to delete

	// Wait asks to let every connect() that is being decided finish first: it
	// may have read what the operations before this one changed.
	Wait bool
}

// Diff returns the operations that turn current into want.
//
// Connections are decided between any two of them, so their order keeps this
// promise: at every moment a client meets, of its service's entry, of that
// entry's split and of every cluster, what was before or what will be after.
// So it gets an endpoint of the old or the new set, is never sent to something
// that is not there, and is refused only if old or new refuse.
//
//  1. What makes clusters larger: members, slots, then counts. A slot whose
//     endpoint is gone is overwritten here, by a new endpoint or by the one of
//     the last slot, so a draining pod is left by the first operations.
//  2. What turns clients to other clusters: splits, then services.
//  3. Pods, and the counters and permitted addresses of their interfaces.
//  4. Addresses for the socket bypass, which lead to pods that are there. Those
//     that do not any more went before everything else.
//  5. The removals, in the reverse order: interfaces, pods, services, splits,
//     then what makes clusters smaller: counts before the slots they covered,
//     and members.
//
// A lookup that meets a slot beyond a lowered count draws again in the kernel.
// A lookup that was turned to a cluster before step 2 and reads it after step
// 5 would find it empty; for that case the first such operation waits.
func Diff(current, want *Contents) []Op {
	if current == nil {
		current = NewContents()
	}
	clusters := diffClusters(current, want)
	members := diffMap(bpf.MapMembers, current.Members, want.Members, compareMembers)
	splits := diffMap(bpf.MapSplits, current.Splits, want.Splits, cmp.Compare)
	services := diffMap(bpf.MapServices, current.Services, want.Services, compareServices)
	slices.Reverse(services.remove)
	pods := diffMap(bpf.MapPods, current.Pods, want.Pods, cmp.Compare)
	counters := diffCounters(current, want)
	bypass := diffMap(bpf.MapBypass, current.Bypass, want.Bypass, compareAddrs)
	ifaces := diffMap(bpf.MapIfaces, current.Ifaces, want.Ifaces, cmp.Compare)

	turned := len(splits.set) + len(services.set) + len(services.remove)
	if turned > 0 && clusters.emptied >= 0 {
		clusters.remove[clusters.emptied].Wait = true
	}
	return slices.Concat(
		bypass.remove,
		members.set, clusters.set, splits.set, services.set, pods.set, counters.set, ifaces.set, bypass.set,
		ifaces.remove, counters.remove, pods.remove, services.remove, splits.remove, clusters.remove, members.remove,
	)
}

// change is what one map needs: what adds and replaces, and what takes away.
type change struct {
	set, remove []Op
}

func diffMap[K, V comparable](name string, current, want map[K]V, order func(a, b K) int) change {
	var c change
	if sameMap(current, want) {
		return c
	}
	for key, val := range want {
		now, there := current[key]
		if !there || now != val {
			c.set = append(c.set, Op{Map: name, Insert: !there, Key: key, Value: val})
		}
	}
	for key := range current {
		if _, stays := want[key]; !stays {
			c.remove = append(c.remove, Op{Map: name, Delete: true, Key: key})
		}
	}
	byKey := func(a, b Op) int { return order(a.Key.(K), b.Key.(K)) }
	slices.SortFunc(c.set, byKey)
	slices.SortFunc(c.remove, byKey)
	return c
}

// diffCounters starts the counters of an interface at zero, also when its
// index now belongs to another pod.
func diffCounters(current, want *Contents) change {
	c := diffMap(bpf.MapIfStats, current.Counters, want.Counters, cmp.Compare)
	for i := range c.set {
		c.set[i].Value = bpf.IfaceStat{}
	}
	for _, ifindex := range slices.Sorted(maps.Keys(want.Ifaces)) {
		now, there := current.Ifaces[ifindex]
		if there && now.Netns != want.Ifaces[ifindex].Netns && current.Counters[ifindex] {
			c.set = append(c.set, Op{Map: bpf.MapIfStats, Key: ifindex, Value: bpf.IfaceStat{}})
		}
	}
	return c
}

// clusterChange covers hd_clusters and hd_endpoints together.
type clusterChange struct {
	change
	emptied int // index in remove of the first cluster that loses its last endpoint; -1: none
}

func diffClusters(current, want *Contents) clusterChange {
	var ids []uint64
	if sameMap(current.Clusters, want.Clusters) && len(current.Strays) == 0 {
		return clusterChange{emptied: -1}
	}
	for id, w := range want.Clusters {
		now, there := current.Clusters[id]
		if !there || now.Flags != w.Flags || now.Policy != w.Policy || !sameSlots(now.Endpoints, w.Endpoints) {
			ids = append(ids, id)
		}
	}
	for id := range current.Clusters {
		if _, stays := want.Clusters[id]; !stays {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)

	d := clusterDiff{current: current, want: want}
	d.result.emptied = -1
	for _, id := range ids {
		d.cluster(id)
	}
	d.strays()
	return d.result
}

// clusterDiff collects the operations of clusters that differ.
type clusterDiff struct {
	current, want *Contents
	result        clusterChange
}

func (d *clusterDiff) cluster(id uint64) {
	now, there := d.current.Clusters[id]
	next, stays := d.want.Clusters[id]
	for i, e := range next.Endpoints {
		if i >= len(now.Endpoints) || now.Endpoints[i] != e {
			key := slot(id, i)
			_, stray := d.current.Strays[key]
			d.result.set = append(d.result.set, Op{
				Map: bpf.MapEndpoints, Insert: i >= len(now.Endpoints) && !stray, Key: key, Value: e,
			})
		}
	}
	val := Op{Map: bpf.MapClusters, Insert: !there, Key: id, Value: next.val()}
	shrinks := len(next.Endpoints) < len(now.Endpoints)
	switch {
	case !stays:
		d.empties(now)
		d.result.remove = append(d.result.remove, Op{Map: bpf.MapClusters, Delete: true, Key: id})
	case shrinks:
		if len(next.Endpoints) == 0 {
			d.empties(now)
		}
		d.result.remove = append(d.result.remove, val)
	case !there || now.Flags != next.Flags || now.Policy != next.Policy || len(next.Endpoints) > len(now.Endpoints):
		d.result.set = append(d.result.set, val)
	}
	for i := len(now.Endpoints) - 1; i >= len(next.Endpoints); i-- {
		d.result.remove = append(d.result.remove, Op{Map: bpf.MapEndpoints, Delete: true, Key: slot(id, i)})
	}
}

// empties notes that the next removal takes the last endpoint of a cluster.
func (d *clusterDiff) empties(now Cluster) {
	if len(now.Endpoints) > 0 && d.result.emptied < 0 {
		d.result.emptied = len(d.result.remove)
	}
}

// strays deletes the slots that no count covers, before or after.
func (d *clusterDiff) strays() {
	var gone []bpf.EndpointKey
	for key := range d.current.Strays {
		if int(key.Index) >= len(d.want.Clusters[key.Cluster].Endpoints) {
			gone = append(gone, key)
		}
	}
	slices.SortFunc(gone, func(a, b bpf.EndpointKey) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Index, b.Index))
	})
	for _, key := range gone {
		d.result.remove = append(d.result.remove, Op{Map: bpf.MapEndpoints, Delete: true, Key: key})
	}
}

func slot(cluster uint64, index int) bpf.EndpointKey {
	return bpf.EndpointKey{Cluster: cluster, Index: uint32(index)}
}

// sameSlots compares by identity first: Build keeps the slots that did not
// change.
func sameSlots(a, b []bpf.EndpointVal) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true
	}
	return slices.Equal(a, b)
}

func compareServices(a, b bpf.ServiceKey) int {
	return cmp.Or(
		cmp.Compare(b.Scope, a.Scope), // variants first: clients that have one never meet the other in between
		bytes.Compare(a.Addr.B[:], b.Addr.B[:]),
		cmp.Compare(bpf.Port(a.PortBe), bpf.Port(b.PortBe)),
		cmp.Compare(a.Proto, b.Proto))
}

func compareAddrs(a, b bpf.Addr) int { return bytes.Compare(a.B[:], b.B[:]) }

func compareMembers(a, b bpf.MemberKey) int {
	return cmp.Or(
		cmp.Compare(a.Service, b.Service),
		bytes.Compare(a.Addr.B[:], b.Addr.B[:]),
		cmp.Compare(bpf.Port(a.PortBe), bpf.Port(b.PortBe)))
}
