package bpf_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

var cases = flag.Int("cases", 20_000, "decisions to compare in TestDecide")

// TestDecide compares the kernel's decision with the reference over random
// tables and questions. The tables are more hostile than the agent's: holes,
// recycled elements, dangling references and splits that no plan would write.
func TestDecide(t *testing.T) {
	why, maps := load(t, bpf.ProgWhy)
	rng := rand.New(rand.NewPCG(1, 2))
	const perWorld = 500
	seen := map[string]int{}
	for done := 0; done < *cases; done += perWorld {
		w := newWorld(rng)
		fill(t, maps, w.tables)
		for i := range perWorld {
			in := w.question(rng)
			got, err := bpf.Decide(why, in)
			if err != nil {
				t.Fatal(err)
			}
			want := w.decide(in)
			if got != want {
				t.Fatalf("case %d: %+v\nkernel    %s\nreference %s", done+i, in, show(got), show(want))
			}
			count(seen, got)
			first := w.services[bpf.ServiceKey{Addr: in.Addr, PortBe: in.PortBe, Proto: in.Proto}]
			if got.Reason == bpf.ReasonNotService && first.Flags&bpf.ServiceVariants != 0 {
				seen["for others only"]++
			}
		}
	}
	for _, r := range bpf.Reasons() {
		decided := r >= bpf.ReasonNotEnrolled && r <= bpf.ReasonTableRace || r == bpf.ReasonMaxConnections
		if decided && seen[r.String()] == 0 {
			t.Errorf("no case ended in %s", r)
		}
	}
	for _, way := range []string{"scoped", "split", "no split", "IPv4", "IPv6"} {
		if seen[way] == 0 {
			t.Errorf("no translated case was %s", way)
		}
	}
	if seen["for others only"] == 0 {
		t.Error("no client met a service that is for others only")
	}
	t.Log(seen)
}

func count(seen map[string]int, out bpf.ConnectOut) {
	seen[out.Reason.String()]++
	if out.Verdict != bpf.VerdictTranslate {
		return
	}
	if out.Scope != 0 {
		seen["scoped"]++
	}
	if out.Column != bpf.None {
		seen["split"]++
	} else {
		seen["no split"]++
	}
	if bpf.AddrOf(out.Addr).Is4() {
		seen["IPv4"]++
	} else {
		seen["IPv6"]++
	}
}

func show(out bpf.ConnectOut) string {
	return fmt.Sprintf("%s %s column=%d index=%d scope=%d service=%d cluster=%d %s:%d",
		out.Verdict, out.Reason, int32(out.Column), int32(out.Index), out.Scope, out.Service, out.Cluster,
		bpf.AddrOf(out.Addr), bpf.Port(out.PortBe))
}

// world is a set of tables, and what is worth asking about it.
type world struct {
	*tables
	vips      []bpf.ServiceKey
	endpoints []bpf.EndpointVal
}

const (
	worldPods     = 6
	worldScopes   = 3
	worldClusters = 8
	worldSplits   = 6
	worldNow      = uint64(1e15)
)

func newWorld(rng *rand.Rand) *world {
	w := &world{tables: &tables{
		pods:      map[uint64]bpf.PodVal{},
		own:       map[uint64]uint8{3: 1},
		services:  map[bpf.ServiceKey]bpf.ServiceVal{},
		splits:    map[uint64]bpf.SplitVal{},
		clusters:  map[uint64]bpf.ClusterVal{},
		endpoints: map[bpf.EndpointKey]bpf.EndpointVal{},
		members:   map[bpf.MemberKey]bpf.MemberVal{},
		affinity:  map[bpf.AffinityKey]bpf.AffinityVal{},
		loads:     map[uint64]bpf.LoadVal{},
		outliers:  map[bpf.OutlierKey]bpf.OutlierVal{},
	}}
	for netns := uint64(1); netns <= worldPods; netns++ {
		w.pods[netns] = bpf.PodVal{Scope: 1 + rng.Uint64N(worldScopes), Ifindex: rng.Uint32()}
	}
	for id := uint64(1); id <= worldClusters; id++ {
		w.addCluster(rng, id)
	}
	for id := uint64(1); id <= worldSplits; id++ {
		w.splits[id] = randomSplit(rng)
	}
	for range 16 {
		w.addService(rng)
	}
	return w
}

// addCluster adds a cluster of one family, now and then empty, with a hole,
// with an element that belongs to another cluster, or with the wrong family.
func (w *world) addCluster(rng *rand.Rand, id uint64) {
	if rng.IntN(10) == 0 {
		return
	}
	val := bpf.ClusterVal{Count: rng.Uint32N(6)}
	if rng.IntN(2) == 0 {
		val.Flags = bpf.ClusterLocalOnly
	}
	if rng.IntN(3) == 0 {
		val.ConnectTimeoutMs, val.MaxFailures = rng.Uint32N(5000), rng.Uint32N(3)
		val.MaxConnections = rng.Uint32N(4)
		w.loads[id] = bpf.LoadVal{Open: rng.Int64N(5) - 1}
	}
	w.clusters[id] = val
	v6 := rng.IntN(2) == 0
	for i := range val.Count {
		endpoint := bpf.EndpointVal{
			Addr:    randomAddr(rng, v6 != (rng.IntN(40) == 0)),
			PortBe:  bpf.PortBE(uint16(rng.Uint32())),
			Cluster: id,
		}
		w.endpoints = append(w.endpoints, endpoint)
		switch rng.IntN(12) {
		case 0:
			continue
		case 1:
			endpoint.Cluster = id + 1
		}
		if rng.IntN(3) == 0 {
			w.outliers[bpf.OutlierKey{Cluster: id, Addr: endpoint.Addr, PortBe: endpoint.PortBe}] =
				bpf.OutlierVal{UntilNs: worldNow + rng.Uint64N(3) - 1}
		}
		w.tables.endpoints[bpf.EndpointKey{Cluster: id, Index: i}] = endpoint
	}
}

func randomSplit(rng *rand.Rand) bpf.SplitVal {
	split := bpf.SplitVal{Columns: rng.Uint32N(uint32(bpf.MaxColumns) + 2), Total: 1 + rng.Uint32N(2000)}
	if rng.IntN(8) == 0 {
		split.Total = 0
	}
	for i := range split.Column {
		split.Column[i] = bpf.Column{
			Cluster: rng.Uint64N(worldClusters + 2),
			Cut:     rng.Uint32N(split.Total + 2),
			Alias:   rng.Uint32N(uint32(bpf.MaxColumns) + 3),
		}
	}
	return split
}

func (w *world) addService(rng *rand.Rand) {
	key := bpf.ServiceKey{
		Addr:   randomAddr(rng, rng.IntN(2) == 0),
		PortBe: bpf.PortBE(uint16(80 + rng.UintN(3))),
		Proto:  []uint8{tcp, udp}[rng.IntN(2)],
	}
	val := w.randomService(rng)
	w.services[key] = val
	w.vips = append(w.vips, key)
	if rng.IntN(3) == 0 {
		key.Scope = 1 + rng.Uint64N(worldScopes)
		w.services[key] = w.randomService(rng)
	}
}

// randomService returns a service, and has it remember some clients.
func (w *world) randomService(rng *rand.Rand) bpf.ServiceVal {
	val := bpf.ServiceVal{
		Service: rng.Uint64(),
		Cluster: rng.Uint64N(worldClusters + 1),
		Flags:   bpf.ServiceFlag(rng.Uint32N(4)),
	}
	if rng.IntN(2) == 0 {
		val.Split = 1 + rng.Uint64N(worldSplits+1)
	}
	if rng.IntN(2) == 0 || len(w.endpoints) == 0 {
		return val
	}
	val.AffinityS = 1 + rng.Uint32N(10800)
	for netns := uint64(1); netns <= worldPods; netns++ {
		endpoint := w.endpoints[rng.IntN(len(w.endpoints))]
		age := rng.Uint64N(2 * uint64(val.AffinityS) * 1e9)
		if rng.IntN(4) == 0 {
			age = uint64(val.AffinityS)*1e9 + rng.Uint64N(3) - 1 // at the boundary
		}
		w.affinity[bpf.AffinityKey{Service: val.Service, Netns: netns}] = bpf.AffinityVal{
			Addr: endpoint.Addr, PortBe: endpoint.PortBe, LastNs: worldNow - age,
		}
		if rng.IntN(4) > 0 {
			w.members[bpf.MemberKey{Service: val.Service, Addr: endpoint.Addr, PortBe: endpoint.PortBe}] =
				bpf.MemberVal{Cluster: endpoint.Cluster}
		}
	}
	return val
}

func randomAddr(rng *rand.Rand, v6 bool) bpf.Addr {
	if v6 {
		return bpf.AddrFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(rng.Uint32())}))
	}
	return bpf.AddrFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(rng.Uint32())}))
}

func (w *world) question(rng *rand.Rand) bpf.ConnectIn {
	vip := w.vips[rng.IntN(len(w.vips))]
	in := bpf.ConnectIn{
		Netns:  1 + rng.Uint64N(worldPods),
		Cgroup: 10,
		Rnd:    rng.Uint64(),
		NowNs:  worldNow,
		Addr:   vip.Addr,
		PortBe: vip.PortBe,
		Proto:  vip.Proto,
	}
	switch rng.IntN(24) {
	case 0:
		in.Netns = worldPods + rng.Uint64N(3)
	case 1:
		in.Cgroup = 3
	case 2:
		in.Proto = uint8(rng.Uint32())
	case 3:
		in.PortBe++
	case 4:
		in.Addr.B[rng.IntN(16)] ^= 1
	case 5:
		in.Rnd = rng.Uint64N(100)
	}
	return in
}

// fill makes the maps hold the tables and nothing else.
func fill(t *testing.T, maps map[string]*ebpf.Map, w *tables) {
	t.Helper()
	replace(t, maps[bpf.MapPods], w.pods)
	replace(t, maps[bpf.MapOwn], w.own)
	replace(t, maps[bpf.MapServices], w.services)
	replace(t, maps[bpf.MapSplits], w.splits)
	replace(t, maps[bpf.MapClusters], w.clusters)
	replace(t, maps[bpf.MapEndpoints], w.endpoints)
	replace(t, maps[bpf.MapMembers], w.members)
	replace(t, maps[bpf.MapAffinity], w.affinity)
	replace(t, maps[bpf.MapLoads], w.loads)
	replace(t, maps[bpf.MapOutliers], w.outliers)
}

func replace[K comparable, V any](t *testing.T, m *ebpf.Map, want map[K]V) {
	t.Helper()
	var stale []K
	var key K
	var val V
	for entries := m.Iterate(); entries.Next(&key, &val); {
		if _, ok := want[key]; !ok {
			stale = append(stale, key)
		}
	}
	for _, k := range stale {
		if err := m.Delete(k); err != nil {
			t.Fatalf("%v: delete %+v: %v", m, k, err)
		}
	}
	for k, v := range want {
		put(t, m, k, v)
	}
}
