package tables

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state/statetest"
)

func build(t testing.TB, text string, l plan.Limits, current *plan.Contents) *plan.Contents {
	t.Helper()
	s, err := statetest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	pods := []plan.Pod{{Namespace: "web", Name: "client", Netns: 11, Ifindex: 5,
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.7")}}}
	c, _, problems := plan.Build(s, pods, l, current)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

const cart = `
node n1
service shop/cart 10.96.0.10 affinity=30
  port http 80/tcp
    9 shop/cart/80/tcp shop/cart:80
    1 shop/canary/80/tcp shop/canary:80
cluster shop/cart/80/tcp
  10.1.0.1:8080
  10.1.0.2:8080
cluster shop/canary/80/tcp
  10.1.0.3:8080
`

func TestApplyAndRead(t *testing.T) {
	tables, _ := load(t, limits)
	empty, err := tables.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := build(t, cart, limits, empty)
	mustApply(t, tables, plan.Diff(empty, want))
	got := mustHold(t, tables, want)
	if len(got.Members) != 3 || len(got.Counters) != 1 || len(got.Ifaces) != 1 || len(got.Pods) != 1 {
		t.Errorf("read %+v", got)
	}
	mustApply(t, tables, plan.Diff(got, empty))
	mustHold(t, tables, empty)
}

// A batch is cut off at every possible place, as by kill -9; what was read
// back is enough to finish it.
func TestCutOff(t *testing.T) {
	tables, _ := load(t, limits)
	r := rand.New(rand.NewPCG(5, 5))
	s := statetest.Random(r)
	for range 60 {
		current, err := tables.Read()
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := plan.Build(s, nil, limits, current)
		ops := plan.Diff(current, want)
		cut := r.IntN(len(ops) + 1)
		mustApply(t, tables, ops[:cut])
		if current, err = tables.Read(); err != nil {
			t.Fatal(err)
		}
		mustApply(t, tables, plan.Diff(current, want))
		mustHold(t, tables, want)
		s = statetest.Mutate(r, s)
	}
}

func TestMapFull(t *testing.T) {
	small := limits
	small.Endpoints = 2
	tables, _ := load(t, small)
	if got := tables.Limits(); got != small {
		t.Errorf("limits %+v, want %+v", got, small)
	}
	want := build(t, cart, limits, nil) // a plan for larger maps
	ops := plan.Diff(nil, want)
	done, err := tables.Apply(ops)
	if !errors.Is(err, unix.E2BIG) {
		t.Fatalf("%d operations, error %v", done, err)
	}
	for _, word := range []string{"set ", bpf.MapEndpoints, "2 entries", "raise --max-endpoints"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if ops[done].Map != bpf.MapEndpoints {
		t.Errorf("stopped at %s", ops[done])
	}
	// The agent knows the size of its maps: the next plan fits.
	current, err := tables.Read()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := statetest.Parse(cart)
	for range 3 {
		next, _, _ := plan.Build(s, nil, tables.Limits(), current)
		mustApply(t, tables, plan.Diff(current, next))
		current = mustHold(t, tables, next)
		if !next.Deferred {
			return
		}
	}
	t.Error("deferred for ever")
}

func TestApplyErrors(t *testing.T) {
	tables, _ := load(t, limits)
	if err := tables.maps[bpf.MapPods].Freeze(); err != nil {
		t.Fatal(err)
	}
	_, err := tables.Apply([]plan.Op{{Map: bpf.MapPods, Insert: true, Key: uint64(7), Value: bpf.PodVal{}}})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "set 7 in map hd_pods") || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("frozen map: %v", err)
	}
	_, err = tables.Apply([]plan.Op{{Map: "hd_other", Key: uint64(7), Value: bpf.PodVal{}}})
	if err == nil || !strings.Contains(err.Error(), "no map hd_other") {
		t.Errorf("missing map: %v", err)
	}
	if done, err := tables.Apply([]plan.Op{{Map: bpf.MapSplits, Delete: true, Key: uint64(7)}}); done != 1 || err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	without := New(map[string]*ebpf.Map{})
	if _, err := without.Read(); err == nil || !strings.Contains(err.Error(), "no map hd_pods") {
		t.Errorf("read without maps: %v", err)
	}
}

// A wait lasts until running programs have finished; it must not fail and must
// not take for ever.
func TestSettle(t *testing.T) {
	tables, _ := load(t, limits)
	ops := []plan.Op{
		{Map: bpf.MapClusters, Insert: true, Key: uint64(7), Value: bpf.ClusterVal{}},
		{Map: bpf.MapClusters, Delete: true, Key: uint64(7), Wait: true},
	}
	mustApply(t, tables, ops)
}

// An interface's counters are zero on every CPU when it is enrolled.
func TestCountersStartAtZero(t *testing.T) {
	tables, _ := load(t, limits)
	want := build(t, cart, limits, nil)
	mustApply(t, tables, plan.Diff(nil, want))
	perCPU := make([]bpf.IfaceStat, ebpf.MustPossibleCPU())
	for i := range perCPU {
		perCPU[i] = bpf.IfaceStat{RxPackets: 1, RxBytes: 2, TxPackets: 3, TxBytes: 4, Dropped: 5}
	}
	if err := tables.maps[bpf.MapIfStats].Put(uint32(5), perCPU); err != nil {
		t.Fatal(err)
	}
	stats, err := tables.IfaceStats()
	if n := uint64(len(perCPU)); err != nil || stats[5].RxPackets != n || stats[5].Dropped != 5*n {
		t.Errorf("stats %+v, error %v", stats, err)
	}
	mustApply(t, tables, []plan.Op{{Map: bpf.MapIfStats, Key: uint32(5), Value: bpf.IfaceStat{}}})
	if stats, err = tables.IfaceStats(); err != nil || stats[5] != (bpf.IfaceStat{}) || len(stats) != 1 {
		t.Errorf("stats %+v, error %v", stats, err)
	}
}
