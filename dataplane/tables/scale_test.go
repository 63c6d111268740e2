package tables

import (
	"fmt"
	"net/netip"
	"testing"

	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// BenchmarkFill writes 10,000 services with 100,000 endpoints into empty maps
// and reads them back: what an agent does after the maps were lost.
func BenchmarkFill(b *testing.B) {
	s := &state.Snapshot{Services: map[string]state.Service{}, Clusters: map[string]state.Cluster{}}
	for i := range 10_000 {
		c := state.Cluster{Name: fmt.Sprintf("shop/s%d/80/tcp", i)}
		for j := range 10 {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)})
			c.Endpoints = append(c.Endpoints, state.Endpoint{Address: netip.AddrPortFrom(a, 8080)})
		}
		s.Clusters[c.Name] = c
		name := fmt.Sprintf("s%d", i)
		s.Services["shop/"+name] = state.Service{Namespace: "shop", Name: name,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})},
			Ports:     []state.Port{{Port: 80, Protocol: state.TCP, Clusters: []state.WeightedCluster{{Cluster: c.Name, Weight: 1}}}}}
	}
	sizes := plan.Limits{Pods: 64, Services: 65536, Splits: 16384, Clusters: 65536, Endpoints: 262144, Members: 262144}
	tables, _ := load(b, sizes)
	want, _, _ := plan.Build(s, nil, sizes, nil)
	fill, empty := plan.Diff(nil, want), plan.Diff(want, plan.NewContents())
	for b.Loop() {
		mustApply(b, tables, fill)
		mustHold(b, tables, want)
		b.StopTimer()
		mustApply(b, tables, empty)
		b.StartTimer()
	}
	b.ReportMetric(float64(len(fill)), "ops")
}

// BenchmarkSettle is the wait before a cluster that services were turned away
// from is emptied.
func BenchmarkSettle(b *testing.B) {
	load(b, limits)
	for b.Loop() {
		if err := settle(); err != nil {
			b.Fatal(err)
		}
	}
}
