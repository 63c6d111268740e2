package tables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

func TestCounters(t *testing.T) {
	tables, _ := load(t, limits)
	key := bpf.StatKey{Service: 1, Cluster: 2, PortBe: bpf.PortBE(80)}
	val := bpf.StatVal{Opened: 7, Established: 6, Closed: 5}
	put(t, tables, bpf.MapStats, key, val)
	put(t, tables, bpf.MapRefusals, bpf.RefusalKey{Service: 1, Reason: bpf.ReasonNoEndpoint}, uint64(9))
	perCPU := make([]uint64, ebpf.MustPossibleCPU())
	for i := range perCPU {
		perCPU[i] = 10
	}
	if err := tables.maps[bpf.MapReasons].Put(uint32(bpf.ReasonBalanced), perCPU); err != nil {
		t.Fatal(err)
	}

	stats, err := tables.Stats()
	if err != nil || len(stats) != 1 || stats[key] != val {
		t.Errorf("stats %v, error %v", stats, err)
	}
	refusals, err := tables.Refusals()
	if err != nil || len(refusals) != 1 || refusals[bpf.RefusalKey{Service: 1, Reason: bpf.ReasonNoEndpoint}] != 9 {
		t.Errorf("refusals %v, error %v", refusals, err)
	}
	reasons, err := tables.Reasons()
	if err != nil || len(reasons) != 1 || reasons[bpf.ReasonBalanced] != uint64(10*len(perCPU)) {
		t.Errorf("reasons %v, error %v", reasons, err)
	}
}

func put(t testing.TB, tables *Tables, name string, key, value any) {
	t.Helper()
	if err := tables.maps[name].Put(pointer(key), pointer(value)); err != nil {
		t.Fatal(err)
	}
}

// Reading ends while elements come and are evicted all the time.
func TestStatsWhileTheyChange(t *testing.T) {
	tables, _ := load(t, limits)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			default:
			}
			key := bpf.StatKey{Service: r.Uint64N(200_000)}
			if err := tables.maps[bpf.MapStats].Put(&key, &bpf.StatVal{Opened: 1}); err != nil {
				t.Error(err)
				return
			}
			if r.IntN(2) == 0 {
				_ = tables.maps[bpf.MapStats].Delete(&bpf.StatKey{Service: r.Uint64N(200_000)})
			}
		}
	})
	for range 30 {
		stats, err := tables.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if most := int(tables.maps[bpf.MapStats].MaxEntries()); len(stats) > most {
			t.Fatalf("%d elements of at most %d", len(stats), most)
		}
		n := 0
		if err := step(tables.maps[bpf.MapStats], func(bpf.StatKey, bpf.StatVal) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writer.Wait()
}

// Both ways of walking see the same elements, also when there are more than
// one system call reads.
func TestWalksAgree(t *testing.T) {
	large := limits
	large.Endpoints = 3*batch + 17
	tables, _ := load(t, large)
	m := tables.maps[bpf.MapEndpoints]
	want := map[bpf.EndpointKey]bpf.EndpointVal{}
	for i := range uint32(large.Endpoints) {
		key := bpf.EndpointKey{Cluster: 1, Index: i}
		want[key] = bpf.EndpointVal{Cluster: 1, PortBe: uint16(i)}
		put(t, tables, bpf.MapEndpoints, key, want[key])
	}
	for name, walk := range map[string]func(*ebpf.Map, func(bpf.EndpointKey, bpf.EndpointVal) bool) error{
		"batch": each[bpf.EndpointKey, bpf.EndpointVal],
		"step":  step[bpf.EndpointKey, bpf.EndpointVal],
		"tiny batch": func(m *ebpf.Map, visit func(bpf.EndpointKey, bpf.EndpointVal) bool) error {
			return eachBatch(m, 1, visit) // too small for most buckets
		},
	} {
		got := map[bpf.EndpointKey]bpf.EndpointVal{}
		err := walk(m, func(k bpf.EndpointKey, v bpf.EndpointVal) bool { got[k] = v; return true })
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d elements of %d, error %v", name, len(got), len(want), err)
		}
		for k, v := range got {
			if want[k] != v {
				t.Fatalf("%s: %v is %v, want %v", name, k, v, want[k])
			}
		}
		n := 0
		if err := walk(m, func(bpf.EndpointKey, bpf.EndpointVal) bool { n++; return n < 3 }); err != nil || n != 3 {
			t.Errorf("%s: went on to %d, error %v", name, n, err)
		}
	}
}

func TestUsage(t *testing.T) {
	tables, _ := load(t, limits)
	entries := func() map[string]int {
		t.Helper()
		all, err := tables.Usage()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, u := range all {
			got[u.Name] = u.Entries
			if u.KeySize == 0 || u.ValueSize == 0 || u.Type == "" || u.Entries >= 0 && (u.Bytes == 0 || u.MaxEntries == 0) {
				t.Errorf("usage %+v", u)
			}
		}
		if len(got) != len(tables.maps) {
			t.Errorf("%d maps of %d", len(got), len(tables.maps))
		}
		return got
	}
	want := build(t, cart, limits, nil)
	ops := plan.Diff(nil, want)
	mustApply(t, tables, ops)
	put(t, tables, bpf.MapStats, bpf.StatKey{Service: 1}, bpf.StatVal{})
	full := map[string]int{bpf.MapPods: 1, bpf.MapIfaces: 1, bpf.MapIfStats: 1, bpf.MapServices: 1, bpf.MapSplits: 1,
		bpf.MapClusters: 2, bpf.MapEndpoints: 3, bpf.MapMembers: 3, bpf.MapStats: 1, bpf.MapConns: -1, bpf.MapOwn: 0}
	check := func(when string, want map[string]int) {
		t.Helper()
		got := entries()
		for name, n := range want {
			if got[name] != n {
				t.Errorf("%s: %s has %d entries, want %d", when, name, got[name], n)
			}
		}
	}
	check("counted", full)
	if _, err := tables.Read(); err != nil {
		t.Fatal(err)
	}
	check("read", full)
	mustApply(t, tables, plan.Diff(want, plan.NewContents()))
	check("emptied", map[string]int{bpf.MapPods: 0, bpf.MapIfStats: 0, bpf.MapServices: 0, bpf.MapEndpoints: 0, bpf.MapStats: 1})
	mustApply(t, tables, ops)
	check("filled", full)
}

// Every map can be listed, up to a limit, except socket storage.
func TestDump(t *testing.T) {
	tables, _ := load(t, limits)
	want := build(t, cart, limits, nil)
	mustApply(t, tables, plan.Diff(nil, want))
	put(t, tables, bpf.MapStats, bpf.StatKey{Service: 1, PortBe: bpf.PortBE(80)}, bpf.StatVal{Opened: 3})
	put(t, tables, bpf.MapRefusals, bpf.RefusalKey{Service: 1, Reason: bpf.ReasonNoEndpoint}, uint64(9))
	put(t, tables, bpf.MapAffinity, bpf.AffinityKey{Service: 1, Netns: 11}, bpf.AffinityVal{LastNs: 5})
	put(t, tables, bpf.MapFlows, bpf.FlowKey{Netns: 11}, bpf.FlowVal{})
	put(t, tables, bpf.MapOwn, uint64(77), uint8(1))
	key := bpf.FastKey{Addr: [2]bpf.Addr{{B: [16]byte{15: 1}}, {B: [16]byte{15: 2}}}, PortBe: [2]uint16{bpf.PortBE(80), bpf.PortBE(4711)}}
	put(t, tables, bpf.MapFast, key, bpf.FastVal{Client: 1})
	put(t, tables, bpf.MapFastUse, uint32(5), uint64(1))
	put(t, tables, bpf.MapFastEnded, key, bpf.EndedVal{Flow: bpf.FastVal{Client: 1}, AtNs: 7})
	put(t, tables, bpf.MapHandshakes, key, bpf.HandshakeVal{ClientIfindex: 5})
	put(t, tables, bpf.MapBypass, bpf.AddrFrom(netip.MustParseAddr("10.1.0.1")), uint64(11))
	put(t, tables, bpf.MapCredit, bpf.SockKey{Netns: 11}, bpf.CreditVal{Waiting: 5})
	put(t, tables, bpf.MapShares, uint64(11), uint64(3))
	put(t, tables, bpf.MapLoads, uint64(1), bpf.LoadVal{Open: 2})
	put(t, tables, bpf.MapOutliers, bpf.OutlierKey{Cluster: 1}, bpf.OutlierVal{Failures: 2})

	for name := range tables.maps {
		entries, more, err := tables.Dump(name, 100, nil)
		if name == bpf.MapConns || name == bpf.MapPeers || name == bpf.MapBypassed {
			if err == nil || !strings.Contains(err.Error(), "stored with the sockets") {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		if err != nil || more || len(entries) == 0 && name != bpf.MapReasons && name != bpf.MapSocks {
			t.Errorf("%s: %v, more %v, error %v", name, entries, more, err)
		}
	}
	for name, line := range map[string]string{
		bpf.MapPods:      "11 = scope=web ifindex=5",
		bpf.MapServices:  "10.96.0.10:80/tcp scope=* = service=cart split=cart affinity=30s",
		bpf.MapIfStats:   "5 = rx=0/0B tx=0/0B dropped=0",
		bpf.MapRefusals:  "0000000000000001 no_endpoint = 9",
		bpf.MapStats:     "0000000000000001 missing [::]:80 = opened=3 established=0 closed=0",
		bpf.MapOwn:       "77 = 1",
		bpf.MapFast:      "[::1]:80 - [::2]:4711 = interfaces=0,0 opener=1 closing=0x0",
		bpf.MapFastUse:   "5 = 1",
		bpf.MapFastEnded: "[::1]:80 - [::2]:4711 = interfaces=0,0 ended=7ns",
		bpf.MapBypass:    "10.1.0.1 = 11",
		bpf.MapCredit:    "netns=11 [::]:0 > [::]:0 = waiting=5B",
		bpf.MapShares:    "11 = 3",
	} {
		names := map[uint64]string{plan.ScopeID("web"): "web"}
		for _, v := range want.Services {
			names[v.Service] = "cart"
		}
		entries, _, err := tables.Dump(name, 100, func(id uint64) string { return names[id] })
		var lines []string
		for _, e := range entries {
			lines = append(lines, fmt.Sprintf("%s = %s", e.Key, e.Value))
		}
		if err != nil || !slices.Contains(lines, line) {
			t.Errorf("%s: %q, error %v, want %q", name, lines, err, line)
		}
	}
	if entries, more, err := tables.Dump(bpf.MapEndpoints, 2, nil); len(entries) != 2 || !more || err != nil {
		t.Errorf("limit 2: %v, more %v, error %v", entries, more, err)
	}
	if _, _, err := tables.Dump("hd_other", 2, nil); err == nil {
		t.Error("a map that is not there was dumped")
	}
}

// A share is kept while sockets have it, and while others may take of it.
func TestSweepShares(t *testing.T) {
	tables, _ := load(t, limits)
	put(t, tables, bpf.MapShares, uint64(1), uint64(0)) // in the bypass, idle
	put(t, tables, bpf.MapShares, uint64(2), uint64(3)) // left it, with sockets open
	put(t, tables, bpf.MapShares, uint64(3), uint64(0)) // left it
	if err := tables.SweepShares(func(netns uint64) bool { return netns == 1 }); err != nil {
		t.Fatal(err)
	}
	entries, _, err := tables.Dump(bpf.MapShares, 100, nil)
	if want := []Entry{{"1", "0"}, {"2", "3"}}; err != nil || !slices.Equal(entries, want) {
		t.Errorf("left are %v, error %v, want %v", entries, err, want)
	}
}

// The count of a cluster is kept while its connections are open, and while others
// may be counted.
func TestSweepLoads(t *testing.T) {
	tables, _ := load(t, limits)
	put(t, tables, bpf.MapLoads, uint64(1), bpf.LoadVal{})
	put(t, tables, bpf.MapLoads, uint64(2), bpf.LoadVal{Open: 3}) // gone, with connections
	put(t, tables, bpf.MapLoads, uint64(3), bpf.LoadVal{})        // gone
	if err := tables.SweepLoads(func(cluster uint64) bool { return cluster == 1 }); err != nil {
		t.Fatal(err)
	}
	entries, _, err := tables.Dump(bpf.MapLoads, 100, nil)
	want := []Entry{{"0000000000000001", "open=0 ejected=0 until=0ns"}, {"0000000000000002", "open=3 ejected=0 until=0ns"}}
	if err != nil || !slices.Equal(entries, want) {
		t.Errorf("left are %v, error %v, want %v", entries, err, want)
	}
}

// Only ejections that last are shown.
func TestEjected(t *testing.T) {
	tables, _ := load(t, limits)
	lasting := bpf.OutlierKey{Cluster: 1, PortBe: bpf.PortBE(80)}
	put(t, tables, bpf.MapOutliers, lasting, bpf.OutlierVal{UntilNs: 1 << 62})
	put(t, tables, bpf.MapOutliers, bpf.OutlierKey{Cluster: 2}, bpf.OutlierVal{UntilNs: 1, Failures: 2})
	left, err := tables.Ejected()
	if err != nil || len(left) != 1 || left[lasting] <= 0 {
		t.Errorf("ejected are %v, error %v, want the one that lasts", left, err)
	}
}

// What connections on the fast path have moved counts while they are open.
func TestIfaceStatsOfFastConnections(t *testing.T) {
	tables, _ := load(t, limits)
	mustApply(t, tables, plan.Diff(nil, build(t, cart, limits, nil))) // with interface 5
	put(t, tables, bpf.MapFast, bpf.FastKey{}, bpf.FastVal{End: [2]bpf.FastEnd{
		{Ifindex: 5, Packets: 1, Bytes: 10}, {Ifindex: 6, Packets: 2, Bytes: 20},
	}})
	all, err := tables.IfaceStats()
	want := bpf.IfaceStat{RxPackets: 1, RxBytes: 10, TxPackets: 2, TxBytes: 20}
	if err != nil || all[5] != want || len(all) != 1 {
		t.Errorf("counted %+v, %v, want %+v for interface 5 alone", all, err, want)
	}
	// It has left hd_fast, and the program has not added it to hd_if_stats yet.
	if err := tables.maps[bpf.MapFast].Delete(bpf.FastKey{}); err != nil {
		t.Fatal(err)
	}
	if all, err = tables.IfaceStats(); err != nil || all[5] != want {
		t.Errorf("counters fell to %+v, %v", all[5], err)
	}
	mustApply(t, tables, []plan.Op{{Map: bpf.MapIfStats, Key: uint32(5), Value: bpf.IfaceStat{}}})
	if all, err = tables.IfaceStats(); err != nil || all[5] != (bpf.IfaceStat{}) {
		t.Errorf("the next pod of the interface begins with %+v, %v", all[5], err)
	}
}
