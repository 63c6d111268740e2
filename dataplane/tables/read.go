package tables

import (
	"fmt"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// Read returns what the maps hold: at start, because another agent filled
// them, and after an Apply that failed.
func (t *Tables) Read() (*plan.Contents, error) {
	t.writing.Lock()
	defer t.writing.Unlock()

	c := plan.NewContents()
	clusters := map[uint64]bpf.ClusterVal{}
	slots := map[bpf.EndpointKey]bpf.EndpointVal{}
	counters := map[uint32][]bpf.IfaceStat{}
	for _, read := range []func() error{
		func() error { return read(t, bpf.MapPods, c.Pods) },
		func() error { return read(t, bpf.MapIfaces, c.Ifaces) },
		func() error { return read(t, bpf.MapIfStats, counters) },
		func() error { return read(t, bpf.MapServices, c.Services) },
		func() error { return read(t, bpf.MapSplits, c.Splits) },
		func() error { return read(t, bpf.MapClusters, clusters) },
		func() error { return read(t, bpf.MapEndpoints, slots) },
		func() error { return read(t, bpf.MapMembers, c.Members) },
		func() error { return read(t, bpf.MapBypass, c.Bypass) },
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	for ifindex := range counters {
		c.Counters[ifindex] = true
	}
	c.SetClusters(clusters, slots)
	return c, nil
}

// read copies a map that only Apply writes, and counts it.
func read[K comparable, V any](t *Tables, name string, into map[K]V) error {
	m, err := t.table(name)
	if err != nil {
		return err
	}
	err = each(m, func(key K, val V) bool {
		into[key] = val
		return true
	})
	if err != nil {
		return fmt.Errorf("map %s: %w", name, err)
	}
	t.mu.Lock()
	t.entries[name] = len(into)
	t.mu.Unlock()
	return nil
}
