package tables

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// Tables are the maps of one agent. Methods may be called concurrently, except
// that one Read or Apply runs at a time. The maps belong to the caller, who
// closes them after the last call.
type Tables struct {
	maps map[string]*ebpf.Map

	writing sync.Mutex // held by Read and Apply

	mu      sync.Mutex
	entries map[string]int           // of the maps that only Apply writes, since Read
	ifaces  map[uint32]bpf.IfaceStat // as they were last shown, by ifindex
}

// New returns the tables of these maps, by their bpf.Map names. A map that is
// missing is reported by the call that needs it.
func New(maps map[string]*ebpf.Map) *Tables {
	return &Tables{maps: maps, entries: map[string]int{}}
}

// Limits returns the sizes of the maps, for the plan to stay within them. A map
// that is missing has size 0.
func (t *Tables) Limits() plan.Limits {
	size := func(name string) int {
		if m := t.maps[name]; m != nil {
			return int(m.MaxEntries())
		}
		return 0
	}
	return plan.Limits{
		Pods:      min(size(bpf.MapPods), size(bpf.MapIfaces), size(bpf.MapIfStats), size(bpf.MapBypass)/bpf.MaxPodAddrs),
		Services:  size(bpf.MapServices),
		Splits:    size(bpf.MapSplits),
		Clusters:  size(bpf.MapClusters),
		Endpoints: size(bpf.MapEndpoints),
		Members:   size(bpf.MapMembers),
	}
}

func (t *Tables) table(name string) (*ebpf.Map, error) {
	m := t.maps[name]
	if m == nil {
		return nil, fmt.Errorf("there is no map %s; the maps are of another release, restart the agent", name)
	}
	return m, nil
}
