package tables

import (
	"maps"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/dataplane/plan"
)

var limits = plan.Limits{Pods: 64, Services: 256, Splits: 128, Clusters: 256, Endpoints: 1024, Members: 1024}

// load creates the real maps in these sizes, with the program that answers
// what would happen to a connection.
func load(t testing.TB, l plan.Limits) (*Tables, *ebpf.Program) {
	nettest.RequireBPF(t)
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if err := (bpf.Config{}).Apply(spec); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{
		bpf.MapPods: l.Pods, bpf.MapIfaces: l.Pods, bpf.MapIfStats: l.Pods, bpf.MapServices: l.Services,
		bpf.MapSplits: l.Splits, bpf.MapClusters: l.Clusters, bpf.MapEndpoints: l.Endpoints, bpf.MapMembers: l.Members,
	} {
		spec.Maps[name].MaxEntries = uint32(size)
	}
	for name := range spec.Programs {
		if name != bpf.ProgWhy {
			delete(spec.Programs, name)
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(c.Close)
	own := maps.Clone(c.Maps)
	maps.DeleteFunc(own, func(name string, _ *ebpf.Map) bool { return !strings.HasPrefix(name, "hd_") })
	return New(own), c.Programs[bpf.ProgWhy]
}

// mustApply carries out all operations.
func mustApply(t testing.TB, tables *Tables, ops []plan.Op) {
	t.Helper()
	if done, err := tables.Apply(ops); err != nil || done != len(ops) {
		t.Fatalf("%d of %d operations: %v", done, len(ops), err)
	}
}

// mustHold checks that the maps hold exactly these contents.
func mustHold(t testing.TB, tables *Tables, want *plan.Contents) *plan.Contents {
	t.Helper()
	got, err := tables.Read()
	if err != nil {
		t.Fatal(err)
	}
	if ops := plan.Diff(got, want); len(ops) > 0 {
		t.Fatalf("the maps differ by %v", ops)
	}
	return got
}
