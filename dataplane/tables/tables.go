package tables

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
)

// Tables are the maps of one agent. Methods may be called concurrently, except
// that one Read or Apply runs at a time. The maps belong to the caller, who
// closes them after the last call.
type Tables struct {
	maps map[string]*ebpf.Map

	writing sync.Mutex // held by Read and Apply

	mu      sync.Mutex
	entries map[string]int // of the maps that only Apply writes, since Read
}

// New returns the tables of these maps, by their bpf.Map names. A map that is
// missing is reported by the call that needs it.
func New(maps map[string]*ebpf.Map) *Tables {
	return &Tables{maps: maps, entries: map[string]int{}}
}

func (t *Tables) table(name string) (*ebpf.Map, error) {
	m := t.maps[name]
	if m == nil {
		return nil, fmt.Errorf("there is no map %s; the maps are of another release, restart the agent", name)
	}
	return m, nil
}
