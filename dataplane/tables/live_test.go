package tables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state/statetest"
)

// While a service is turned from one cluster to another and back, its clusters
// are emptied and filled, its weights change and its endpoints move, every
// decision that the kernel makes meanwhile is an endpoint.
func TestNobodyIsRefusedMeanwhile(t *testing.T) {
	tables, why := load(t, limits)
	current := plan.NewContents()
	turn := func(r *rand.Rand) {
		s, err := statetest.Parse(neverRefuses(r))
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := plan.Build(s, clients[:1], limits, current)
		mustApply(t, tables, plan.Diff(current, want))
		current = want
	}
	r := rand.New(rand.NewPCG(8, 8))
	turn(r)

	var stop atomic.Bool
	var asked atomic.Uint64
	var askers sync.WaitGroup
	for i := range 2 {
		askers.Go(func() {
			r := rand.New(rand.NewPCG(9, uint64(i)))
			for !stop.Load() {
				out, err := bpf.Decide(why, bpf.ConnectIn{
					Netns: clients[0].Netns, Cgroup: 1, Rnd: r.Uint64(), NowNs: now,
					Addr: bpf.AddrFrom(netip.MustParseAddr("10.96.0.10")), PortBe: bpf.PortBE(80), Proto: 6,
				})
				if err != nil || out.Verdict != bpf.VerdictTranslate {
					t.Errorf("verdict %s, reason %s, error %v", out.Verdict, out.Reason, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for range 400 {
		turn(r)
	}
	stop.Store(true)
	askers.Wait()
	t.Logf("%d decisions", asked.Load())
}

// neverRefuses is a random state of one service. What has no weight may have
// no endpoint, and what has a weight has one.
func neverRefuses(r *rand.Rand) string {
	service, clusters := "service shop/cart 10.96.0.10\n  port - 80/tcp\n", ""
	weights := [3]int{r.IntN(2), r.IntN(3), r.IntN(2)}
	if weights == [3]int{} {
		weights[r.IntN(3)] = 1
	}
	for i, w := range weights {
		n := r.IntN(3)
		if w > 0 {
			n++
		} else if n == 0 {
			continue // not even the cluster
		}
		service += fmt.Sprintf("    %d c%d x\n", w, i)
		clusters += fmt.Sprintf("cluster c%d\n", i)
		for range n {
			clusters += fmt.Sprintf("  10.1.%d.%d:80\n", i, r.IntN(5))
		}
	}
	return service + clusters
}
