package tables

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
	"heddle.io/heddle/dataplane/state/statetest"
)

var cases = flag.Uint64("cases", 150, "how many random snapshots to compare with the reference; the nightly run takes a million")

// Random snapshots go all the way into the real maps; then the kernel's own
// decision is asked about every client and every service, and compared with
// the reference, which knows the snapshot only: which endpoints may be chosen
// and which refusals may happen, and, over all draws, exactly how often.
func TestDecisionsMatchTheSnapshot(t *testing.T) {
	tables, why := load(t, limits)
	d := differential{T: t, tables: tables, why: why, current: plan.NewContents(), seen: map[bpf.Reason]int{}}
	for seed := range *cases {
		d.seed, d.r = seed, rand.New(rand.NewPCG(seed, 1))
		if seed%4 == 0 {
			d.s = statetest.Random(d.r)
		} else {
			d.s = statetest.Mutate(d.r, d.s)
		}
		d.program()
		for _, c := range clients {
			for _, to := range destinations(d.r, d.s) {
				d.compare(c, to)
			}
		}
	}
	for _, r := range []bpf.Reason{bpf.ReasonNotEnrolled, bpf.ReasonNotService, bpf.ReasonBalanced, bpf.ReasonAffinity,
		bpf.ReasonNoEndpoint, bpf.ReasonNoLocalEndpoint, bpf.ReasonBackendMissing, bpf.ReasonWeightsZero} {
		if d.seen[r] == 0 && *cases >= 100 {
			t.Errorf("no connection came out as %s", r)
		}
	}
	t.Logf("%d snapshots, outcomes %v", *cases, d.seen)
}

// clients: one pod in each namespace of the random snapshots, and one that is
// not enrolled.
var clients = []plan.Pod{
	{Namespace: "shop", Name: "a", Netns: 11},
	{Namespace: "bank", Name: "b", Netns: 12},
	{Namespace: "web", Name: "c", Netns: 13},
	{Namespace: "other", Name: "d", Netns: 99},
}

type differential struct {
	*testing.T
	tables  *Tables
	why     *ebpf.Program
	current *plan.Contents
	s       *state.Snapshot
	seed    uint64
	r       *rand.Rand
	seen    map[bpf.Reason]int
}

func (d *differential) program() {
	d.Helper()
	want, _, _ := plan.Build(d.s, clients[:3], limits, d.current)
	mustApply(d, d.tables, plan.Diff(d.current, want))
	d.current = want
}

// compare asks the kernel about one connection, for every draw when there are
// not too many, and for random ones.
func (d *differential) compare(c plan.Pod, to destination) {
	d.Helper()
	want, svc := expect(d.s, c.Namespace, to)
	if c.Netns == 99 {
		want, svc = map[outcome]portion{{reason: bpf.ReasonNotEnrolled}: {1, 1}}, nil
	}
	for range 4 {
		got := d.ask(c, to, d.r.Uint64())
		if _, ok := want[got]; !ok {
			d.Fatalf("%s: got %v, want one of %v\n%s", d.where(c, to), got, want, d.s)
		}
	}
	if draws := draws(svc, to, want); draws > 0 && draws <= 4000 && d.r.IntN(4) == 0 {
		d.enumerate(c, to, want, draws)
	}
	if svc != nil && svc.AffinitySeconds > 0 {
		d.affinity(c, to, want)
	}
}

// draws is the number of different draws: of a column, of a number below the
// sum of weights, and of an endpoint. 0 when there is nothing to draw.
func draws(svc *state.Service, to destination, want map[outcome]portion) uint64 {
	if svc == nil {
		return 0
	}
	var columns, total, whole uint64
	for _, w := range portOf(svc, to).Clusters {
		if w.Weight > 0 {
			columns, total = columns+1, total+uint64(w.Weight)
		}
	}
	for _, p := range want {
		whole = p.whole
	}
	switch columns {
	case 0:
		return 0
	case 1:
		return whole / total // no split: only the endpoint is drawn
	}
	return columns * whole
}

func (d *differential) enumerate(c plan.Pod, to destination, want map[outcome]portion, draws uint64) {
	d.Helper()
	got := map[outcome]uint64{}
	for rnd := range draws {
		got[d.ask(c, to, rnd)]++
	}
	if len(got) != len(want) {
		d.Fatalf("%s: outcomes %v, want %v\n%s", d.where(c, to), got, want, d.s)
	}
	for o, n := range got {
		if p := want[o]; n*p.whole != p.part*draws {
			d.Fatalf("%s: %v came %d times of %d, want %d of %d\n%s", d.where(c, to), o, n, draws, p.part, p.whole, d.s)
		}
	}
}

// affinity: a client goes where it went last, if that can still be drawn.
func (d *differential) affinity(c plan.Pod, to destination, want map[outcome]portion) {
	d.Helper()
	last := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, 9}), 9)
	for o := range want {
		if o.endpoint.IsValid() && d.r.IntN(2) == 0 {
			last = o.endpoint
		}
	}
	service := d.decide(c, to, 0).Service
	key := bpf.AffinityKey{Service: service, Netns: c.Netns}
	m := d.tables.maps[bpf.MapAffinity]
	put(d, d.tables, bpf.MapAffinity, key, bpf.AffinityVal{
		Addr: bpf.AddrFrom(last.Addr()), PortBe: bpf.PortBE(last.Port()), LastNs: now,
	})
	defer func() {
		if err := m.Delete(&key); err != nil {
			d.Fatal(err)
		}
	}()
	got := d.ask(c, to, d.r.Uint64())
	if _, drawn := want[outcome{bpf.ReasonBalanced, last}]; drawn {
		if got != (outcome{bpf.ReasonAffinity, last}) {
			d.Fatalf("%s: got %v, was at %s before\n%s", d.where(c, to), got, last, d.s)
		}
	} else if _, ok := want[got]; !ok {
		d.Fatalf("%s: got %v, was at %s before, which is gone\n%s", d.where(c, to), got, last, d.s)
	}
}

const now = 1 << 40

func (d *differential) decide(c plan.Pod, to destination, rnd uint64) bpf.ConnectOut {
	d.Helper()
	out, err := bpf.Decide(d.why, bpf.ConnectIn{
		Netns: c.Netns, Cgroup: 1, Rnd: rnd, NowNs: now,
		Addr: bpf.AddrFrom(to.address), PortBe: bpf.PortBE(to.port), Proto: uint8(to.protocol),
	})
	if err != nil {
		d.Fatal(err)
	}
	return out
}

func (d *differential) ask(c plan.Pod, to destination, rnd uint64) outcome {
	d.Helper()
	out := d.decide(c, to, rnd)
	d.seen[out.Reason]++
	o := outcome{reason: out.Reason}
	if out.Verdict == bpf.VerdictTranslate {
		o.endpoint = netip.AddrPortFrom(bpf.AddrOf(out.Addr), bpf.Port(out.PortBe))
	}
	return o
}

func (d *differential) where(c plan.Pod, to destination) string {
	return fmt.Sprintf("seed %d: %s/%s to %s:%d/%s", d.seed, c.Namespace, c.Name, to.address, to.port, to.protocol)
}

// destinations are all that a snapshot names, and one that it may not.
func destinations(r *rand.Rand, s *state.Snapshot) []destination {
	all := map[destination]bool{
		{netip.AddrFrom4([4]byte{10, 96, 0, byte(r.IntN(12))}), 80, state.TCP}: true,
	}
	for _, svc := range s.Services {
		for _, a := range svc.Addresses {
			for _, p := range svc.Ports {
				all[destination{a, p.Port, p.Protocol}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b destination) int {
		if c := a.address.Compare(b.address); c != 0 {
			return c
		}
		return int(a.port)<<8 + int(a.protocol) - int(b.port)<<8 - int(b.protocol)
	})
}
