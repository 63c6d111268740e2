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
	counters := map[uint32][]bpf.IfaceStat{}
	for _, read := range []func() error{
		func() error { return read(t, bpf.MapPods, c.Pods) },
		func() error { return read(t, bpf.MapIfaces, c.Ifaces) },
		func() error { return read(t, bpf.MapIfStats, counters) },
		func() error { return read(t, bpf.MapServices, c.Services) },
		func() error { return read(t, bpf.MapSplits, c.Splits) },
		func() error { return read(t, bpf.MapClusters, clusters) },
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
	if err := t.readSlots(c, clusters); err != nil {
		return nil, err
	}
	return c, nil
}

// readSlots gives every endpoint its place at once: most of what is read are
// endpoints.
func (t *Tables) readSlots(c *plan.Contents, clusters map[uint64]bpf.ClusterVal) error {
	m, err := t.table(bpf.MapEndpoints)
	if err != nil {
		return err
	}
	n := 0
	c.SetClusters(clusters, func(yield func(bpf.EndpointKey, bpf.EndpointVal) bool) {
		err = each(m, func(key bpf.EndpointKey, val bpf.EndpointVal) bool {
			n++
			return yield(key, val)
		})
	})
	if err != nil {
		return fmt.Errorf("map %s: %w", bpf.MapEndpoints, err)
	}
	t.counted(bpf.MapEndpoints, n)
	return nil
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
	t.counted(name, len(into))
	return nil
}

func (t *Tables) counted(name string, entries int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[name] = entries
}
