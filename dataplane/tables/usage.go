package tables

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

// Usage is how full a map is.
type Usage struct {
	Name       string
	Type       string
	Entries    int // -1: cannot be counted, it is stored with the sockets
	MaxEntries uint32
	KeySize    uint32
	ValueSize  uint32
	Bytes      uint64 // charged by the kernel; 0 when it does not say
}

// Usage returns the usage of every map, by name. Maps that programs write are
// counted by reading them, which takes some milliseconds when they are large.
func (t *Tables) Usage() ([]Usage, error) {
	var all []Usage
	for _, name := range slices.Sorted(maps.Keys(t.maps)) {
		m := t.maps[name]
		u := Usage{
			Name: name, Type: m.Type().String(), MaxEntries: m.MaxEntries(),
			KeySize: m.KeySize(), ValueSize: m.ValueSize(),
		}
		var err error
		if u.Entries, err = t.count(name, m); err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		if info, err := m.Info(); err == nil {
			u.Bytes, _ = info.Memlock()
		}
		all = append(all, u)
	}
	return all, nil
}

func (t *Tables) count(name string, m *ebpf.Map) (int, error) {
	switch m.Type() {
	case ebpf.SkStorage:
		return -1, nil
	case ebpf.Array, ebpf.PerCPUArray:
		return int(m.MaxEntries()), nil
	}
	t.mu.Lock()
	n, known := t.entries[name]
	t.mu.Unlock()
	if known {
		return n, nil
	}
	n = 0
	err := t.visit(name, m, func(any, any) bool {
		n++
		return n < int(m.MaxEntries())
	})
	return n, err
}

// visit visits the elements of a hash map as structs of package bpf.
func (t *Tables) visit(name string, m *ebpf.Map, visit func(key, value any) bool) error {
	switch name {
	case bpf.MapPods:
		return each(m, func(k uint64, v bpf.PodVal) bool { return visit(k, v) })
	case bpf.MapOwn:
		return each(m, func(k uint64, v uint8) bool { return visit(k, v) })
	case bpf.MapIfaces:
		return each(m, func(k uint32, v bpf.IfaceVal) bool { return visit(k, v) })
	case bpf.MapIfStats:
		return each(m, func(k uint32, v []bpf.IfaceStat) bool { return visit(k, sum(v)) })
	case bpf.MapServices:
		return each(m, func(k bpf.ServiceKey, v bpf.ServiceVal) bool { return visit(k, v) })
	case bpf.MapSplits:
		return each(m, func(k uint64, v bpf.SplitVal) bool { return visit(k, v) })
	case bpf.MapClusters:
		return each(m, func(k uint64, v bpf.ClusterVal) bool { return visit(k, v) })
	case bpf.MapEndpoints:
		return each(m, func(k bpf.EndpointKey, v bpf.EndpointVal) bool { return visit(k, v) })
	case bpf.MapMembers:
		return each(m, func(k bpf.MemberKey, v bpf.MemberVal) bool { return visit(k, v) })
	case bpf.MapAffinity:
		return each(m, func(k bpf.AffinityKey, v bpf.AffinityVal) bool { return visit(k, v) })
	case bpf.MapFlows:
		return each(m, func(k bpf.FlowKey, v bpf.FlowVal) bool { return visit(k, v) })
	case bpf.MapStats:
		return each(m, func(k bpf.StatKey, v bpf.StatVal) bool { return visit(k, v) })
	case bpf.MapBypass:
		return each(m, func(k bpf.Addr, v uint64) bool { return visit(k, v) })
	case bpf.MapSocks:
		return each(m, func(k bpf.SockKey, v uint64) bool { return visit(k, v) })
	case bpf.MapCredit:
		return each(m, func(k bpf.SockKey, v bpf.CreditVal) bool { return visit(k, v) })
	case bpf.MapLoads:
		return each(m, func(k uint64, v bpf.LoadVal) bool { return visit(k, v) })
	case bpf.MapOutliers:
		return each(m, func(k bpf.OutlierKey, v bpf.OutlierVal) bool { return visit(k, v) })
	case bpf.MapShares:
		return each(m, func(k, v uint64) bool { return visit(k, v) })
	case bpf.MapRefusals:
		return each(m, func(k bpf.RefusalKey, v uint64) bool { return visit(k, v) })
	case bpf.MapFast:
		return each(m, func(k bpf.FastKey, v bpf.FastVal) bool { return visit(k, v) })
	case bpf.MapFastUse:
		return each(m, func(k uint32, v uint64) bool { return visit(k, v) })
	case bpf.MapFastEnded:
		return each(m, func(k bpf.FastKey, v bpf.EndedVal) bool { return visit(k, v) })
	case bpf.MapHandshakes:
		return each(m, func(k bpf.FastKey, v bpf.HandshakeVal) bool { return visit(k, v) })
	}
	return fmt.Errorf("its elements are of no known type")
}
