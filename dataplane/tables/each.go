package tables

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// batch is how many elements one system call reads, at first: the kernel reads
// hash buckets as a whole, and a crowded one asks for more.
const batch = 4096

// each visits every element of a hash map until visit returns false. While
// programs write, an element that comes or goes meanwhile may be missed or
// not, but the walk ends: it goes from bucket to bucket and never back.
func each[K, V any](m *ebpf.Map, visit func(K, V) bool) error {
	if m.Type() == ebpf.PerCPUHash {
		return step(m, visit)
	}
	return eachBatch(m, min(batch, int(m.MaxEntries())), visit)
}

func eachBatch[K, V any](m *ebpf.Map, size int, visit func(K, V) bool) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, size), make([]V, size)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		switch {
		case errors.Is(err, ebpf.ErrNotSupported):
			return step(m, visit)
		case errors.Is(err, unix.ENOSPC) && len(keys) < int(m.MaxEntries()):
			keys, values = make([]K, 2*len(keys)), make([]V, 2*len(values))
			continue
		case err != nil && !errors.Is(err, ebpf.ErrKeyNotExist):
			return fmt.Errorf("read: %w", err)
		}
		for i := range n {
			if !visit(keys[i], values[i]) {
				return nil
			}
		}
		if err != nil {
			return nil // that was the last bucket
		}
	}
}

// step visits one element after the other. It gives up after as many steps as
// the map has room for, which only a map that programs keep deleting from can
// reach: what was visited until then is a fair part of it.
func step[K, V any](m *ebpf.Map, visit func(K, V) bool) error {
	var key K
	var value V
	it := m.Iterate()
	for it.Next(&key, &value) {
		if !visit(key, value) {
			return nil
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
