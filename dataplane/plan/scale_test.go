package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"heddle.io/heddle/dataplane/state"
)

// large is 10,000 services with 10 endpoints each.
func large() *state.Snapshot {
	s := &state.Snapshot{
		Node:     state.Node{Name: "n1", Zone: "a"},
		Services: map[string]state.Service{},
		Clusters: map[string]state.Cluster{},
	}
	for i := range 10_000 {
		ns, name := fmt.Sprintf("team-%d", i/100), fmt.Sprintf("service-%d", i)
		c := state.Cluster{Name: fmt.Sprintf("%s/%s/80/tcp", ns, name), Locality: state.PreferSameZone}
		for j := range 10 {
			c.Endpoints = append(c.Endpoints, state.Endpoint{
				Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}), 8080),
				Node:    fmt.Sprintf("n%d", j), Zone: "a",
			})
		}
		s.Clusters[c.Name] = c
		s.Services[ns+"/"+name] = state.Service{
			Namespace: ns, Name: name,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})},
			Ports: []state.Port{{Name: "http", Port: 80, Protocol: state.TCP, Clusters: []state.WeightedCluster{
				{Cluster: c.Name, Weight: 90, Backend: "a"}, {Weight: 10, Backend: "b"},
			}}},
		}
	}
	return s
}

var huge = Limits{Pods: 1 << 20, Services: 1 << 20, Splits: 1 << 20, Clusters: 1 << 20, Endpoints: 1 << 20, Members: 1 << 20}

const changed = "team-50/service-5000/80/tcp"

// withCluster replaces the endpoints of the changed cluster.
func withCluster(s *state.Snapshot, endpoints []state.Endpoint) *state.Snapshot {
	next := *s
	next.Clusters = make(map[string]state.Cluster, len(s.Clusters))
	for name, c := range s.Clusters {
		next.Clusters[name] = c
	}
	c := s.Clusters[changed]
	c.Endpoints = endpoints
	next.Clusters[changed] = c
	return &next
}

// One change is a few map operations, however much there is.
func TestOneChangeIsFewOps(t *testing.T) {
	s := large()
	var planner Planner
	current, _, problems := planner.Build(s, nil, huge, nil)
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	endpoints := s.Clusters[changed].Endpoints
	one := endpoints[3]
	one.Address = netip.MustParseAddrPort("10.200.0.1:8080")
	replaced := slices.Clone(endpoints)
	replaced[3] = one
	for _, c := range []struct {
		what string
		next *state.Snapshot
		most int
	}{
		{"endpoint added", withCluster(s, append(slices.Clone(endpoints), one)), 2},
		{"endpoint removed", withCluster(s, slices.Delete(slices.Clone(endpoints), 3, 4)), 3},
		{"endpoint replaced", withCluster(s, replaced), 1},
		{"nothing", withCluster(s, endpoints), 0},
	} {
		next := planner
		if _, _, ok := next.update(c.next, nil, huge, current); !ok {
			t.Errorf("%s: everything is planned again", c.what)
		}
		want, _, _ := next.Build(c.next, nil, huge, current)
		if ops := Diff(current, want); len(ops) > c.most {
			t.Errorf("%s: %d operations, want at most %d: %v", c.what, len(ops), c.most, ops)
		}
	}
}

// What one change costs an agent that has 10,000 services and 100,000
// endpoints already.
func BenchmarkOneChange(b *testing.B) {
	s := large()
	endpoints := s.Clusters[changed].Endpoints
	snapshots := []*state.Snapshot{s, withCluster(s, endpoints[1:])}
	var planner Planner
	current, _, _ := planner.Build(s, nil, huge, nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		want, _, _ := planner.Build(snapshots[(i+1)%2], nil, huge, current)
		ops := Diff(current, want)
		if len(ops) == 0 || len(ops) > 4 {
			b.Fatal(ops)
		}
		current = want
	}
}

// Everything from nothing.
func BenchmarkFirst(b *testing.B) {
	s := large()
	b.ReportAllocs()
	for b.Loop() {
		want, _, _ := Build(s, nil, huge, nil)
		if ops := Diff(nil, want); len(ops) != 130_000 {
			b.Fatal(len(ops))
		}
	}
}
