package tables

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// settle returns when every program that was running has finished, so that
// none of them still works with what it read before.
//
// The kernel offers this as a side effect: changing a map of maps waits for
// the programs that may use the old inner map. It takes an RCU grace period,
// some 10 ms. (membarrier(2) would do the same, but not on a machine with one
// CPU or with nohz_full.)
func settle() error {
	spec := &ebpf.MapSpec{Name: "hd_settle_in", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	inner, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("wait for running programs: create a map: %w; the agent needs CAP_BPF", err)
	}
	defer inner.Close()
	outer, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "hd_settle", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec,
	})
	if err != nil {
		return fmt.Errorf("wait for running programs: create a map of maps: %w; the agent needs CAP_BPF", err)
	}
	defer outer.Close()
	if err := outer.Put(uint32(0), inner); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}
