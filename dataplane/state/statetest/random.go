package statetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"heddle.io/heddle/dataplane/state"
)

// The universe of random snapshots is small on purpose: names, addresses and
// ports meet again, collide and come back.
var (
	namespaces = []string{"shop", "bank", "web"}
	names      = []string{"cart", "pay", "api", "db", "dns"}
	nodes      = []string{"n1", "n2", "n3"}
	zones      = []string{"a", "b", ""}
	ports      = []uint16{53, 80, 443}
)

// Random returns a snapshot of up to a dozen services with everything that the
// plan knows: both families, UDP, affinity, variants, localities, draining and
// missing backends, zero weights, and addresses claimed twice.
func Random(r *rand.Rand) *state.Snapshot {
	s := &state.Snapshot{
		Node:      state.Node{Name: "n1", Zone: pick(r, zones)},
		Workloads: map[string]state.Workload{},
		Services:  map[string]state.Service{},
		Clusters:  map[string]state.Cluster{},
	}
	for range 1 + r.IntN(12) {
		mutateCluster(r, s)
	}
	for range r.IntN(12) {
		mutateService(r, s)
	}
	return s
}

// Mutate returns a copy of a snapshot with up to four changes. What did not
// change is shared with the original.
func Mutate(r *rand.Rand, old *state.Snapshot) *state.Snapshot {
	s := &state.Snapshot{
		Node:      old.Node,
		Workloads: old.Workloads,
		Services:  maps.Clone(old.Services),
		Clusters:  maps.Clone(old.Clusters),
	}
	for range 1 + r.IntN(4) {
		switch r.IntN(12) {
		case 0:
			s.Node.Zone = pick(r, zones)
		case 1:
			delete(s.Services, anyKey(r, s.Services))
		case 2:
			delete(s.Clusters, anyKey(r, s.Clusters))
		case 3, 4:
			mutateService(r, s)
		case 5:
			mutateCluster(r, s)
		case 6, 7:
			reweigh(r, s)
		default:
			moveEndpoints(r, s)
		}
	}
	return s
}

// mutateService puts a new service, or a variant of one, or replaces one.
func mutateService(r *rand.Rand, s *state.Snapshot) {
	svc := state.Service{Namespace: pick(r, namespaces), Name: pick(r, names)}
	resource := svc.Namespace + "/" + svc.Name
	v4 := netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + r.IntN(8))})
	v6 := netip.MustParseAddr(fmt.Sprintf("fd00:96::%x", 1+r.IntN(8)))
	svc.Addresses = [][]netip.Addr{{v4}, {v4}, {v6}, {v4, v6}}[r.IntN(4)]
	if base, ok := s.Services[resource]; ok && r.IntN(2) == 0 {
		svc.Addresses = base.Addresses
		svc.Scope = pick(r, namespaces)
		resource += "@" + svc.Scope
	}
	if r.IntN(4) == 0 {
		svc.AffinitySeconds = 30
	}
	for range 1 + r.IntN(2) {
		svc.Ports = append(svc.Ports, randomPort(r, s))
	}
	s.Services[resource] = svc
}

func randomPort(r *rand.Rand, s *state.Snapshot) state.Port {
	p := state.Port{Port: pick(r, ports), Protocol: state.TCP}
	p.Name = fmt.Sprintf("p%d", p.Port)
	if r.IntN(3) == 0 {
		p.Protocol = state.UDP
	}
	for range 1 + r.IntN(3) {
		w := state.WeightedCluster{Weight: uint32(r.IntN(5)), Cluster: anyKey(r, s.Clusters)}
		if r.IntN(8) == 0 {
			w.Cluster = ""
		}
		w.Backend = w.Cluster
		p.Clusters = append(p.Clusters, w)
	}
	return p
}

// reweigh changes the weights of one port of one service.
func reweigh(r *rand.Rand, s *state.Snapshot) {
	name := anyKey(r, s.Services)
	svc := s.Services[name]
	if len(svc.Ports) == 0 {
		return
	}
	svc.Ports = slices.Clone(svc.Ports)
	p := &svc.Ports[r.IntN(len(svc.Ports))]
	p.Clusters = slices.Clone(p.Clusters)
	for i := range p.Clusters {
		p.Clusters[i].Weight = uint32(r.IntN(4))
	}
	s.Services[name] = svc
}

// mutateCluster puts or replaces a cluster.
func mutateCluster(r *rand.Rand, s *state.Snapshot) {
	c := state.Cluster{
		Name:     fmt.Sprintf("%s/%s/%d/tcp", pick(r, namespaces), pick(r, names), pick(r, ports)),
		Locality: state.Locality(r.IntN(4)),
		Policy:   policies[r.IntN(len(policies))],
	}
	for range r.IntN(6) {
		c.Endpoints = append(c.Endpoints, randomEndpoint(r))
	}
	s.Clusters[c.Name] = c
}

// moveEndpoints adds, removes, drains and readies endpoints of one cluster.
func moveEndpoints(r *rand.Rand, s *state.Snapshot) {
	name := anyKey(r, s.Clusters)
	c, ok := s.Clusters[name]
	if !ok {
		return
	}
	c.Endpoints = slices.Clone(c.Endpoints)
	for range 1 + r.IntN(3) {
		n := len(c.Endpoints)
		switch {
		case n == 0 || r.IntN(2) == 0:
			c.Endpoints = append(c.Endpoints, randomEndpoint(r))
		case r.IntN(2) == 0:
			i := r.IntN(n)
			c.Endpoints = slices.Delete(c.Endpoints, i, i+1)
		default:
			i := r.IntN(n)
			c.Endpoints[i].Draining = !c.Endpoints[i].Draining
		}
	}
	s.Clusters[name] = c
}

func randomEndpoint(r *rand.Rand) state.Endpoint {
	a := netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(3)), byte(1 + r.IntN(12))})
	if r.IntN(4) == 0 {
		a = netip.MustParseAddr(fmt.Sprintf("fd00:1::%x", 1+r.IntN(12)))
	}
	return state.Endpoint{
		Address:  netip.AddrPortFrom(a, 8080+uint16(r.IntN(2))),
		Node:     pick(r, nodes),
		Zone:     pick(r, zones),
		Draining: r.IntN(5) == 0,
	}
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// anyKey returns one key of the map, the same one for the same random numbers;
// the zero key when the map is empty.
func anyKey[V any](r *rand.Rand, m map[string]V) string {
	if len(m) == 0 {
		return ""
	}
	return pick(r, slices.Sorted(maps.Keys(m)))
}

// policies are those of random clusters: mostly none.
var policies = []state.Policy{
	{}, {}, {},
	{ConnectTimeout: 2 * time.Second, MaxConnections: 10},
	{MaxFailures: 3, Ejection: 30 * time.Second, MaxEjectionPercent: 50},
}
