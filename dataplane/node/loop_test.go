package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/feed"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state/statetest"
)

// still returns an agent whose loop does not run: the test takes its steps.
func (r *rig) still() *Node {
	r.t.Helper()
	r.tried()
	c := r.config
	c.Log = slog.New(slog.NewTextHandler(testLog{r.t}, nil))
	n, err := New(context.Background(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(n.Close)
	return n
}

// step puts a state in force and returns what reconcile did.
func (r *rig) step(n *Node, text string) time.Duration {
	r.t.Helper()
	s, err := statetest.Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	n.loop.trigger = time.Now()
	n.loop.take(feed.Update{Snapshot: s, Arrived: time.Now()})
	return n.loop.reconcile()
}

func (r *rig) pinned(name string) *ebpf.Map {
	r.t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(r.config.Pins, "maps", name), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { m.Close() })
	return m
}

// agrees checks that the kernel has what the loop believes.
func agrees(t *testing.T, n *Node) {
	t.Helper()
	found, err := n.tables.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range plan.Diff(found, n.loop.current) {
		t.Errorf("the kernel lacks %s", op)
	}
}

const cart = `
node node1
service shop/cart 10.96.0.1
  port http 80/tcp
    90 shop/cart/80/tcp shop/cart:80
    10 shop/new/80/tcp shop/new:80
cluster shop/cart/80/tcp
  10.1.0.1:8080
  10.1.0.2:8080
cluster shop/new/80/tcp
  10.1.0.3:8080
`

func reasonsOf(n *Node) string {
	var out []string
	for _, p := range n.Status().Problems {
		out = append(out, p.Reason)
	}
	return strings.Join(out, " ")
}

func TestDriftIsRepairedAndReported(t *testing.T) {
	r := newRig(t)
	n := r.still()
	if wait := r.step(n, cart); wait != 0 {
		t.Fatalf("retry after %v", wait)
	}
	agrees(t, n)
	n.loop.check()
	if got := reasonsOf(n); got != "" {
		t.Fatalf("problems without a cause: %s", got)
	}

	// Somebody deletes an entry, changes one, and adds one.
	clusters := r.pinned(bpf.MapClusters)
	id := plan.ClusterID("shop/cart/80/tcp", false)
	if err := clusters.Put(id, bpf.ClusterVal{Count: 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.pinned(bpf.MapSplits).Delete(n.loop.index.Ports[0].IDs[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.pinned(bpf.MapPods).Put(uint64(4711), bpf.PodVal{Scope: 1}); err != nil {
		t.Fatal(err)
	}
	n.loop.check()
	n.loop.reconcile()
	agrees(t, n)
	if got := reasonsOf(n); got != "TablesDrifted" {
		t.Errorf("problems are %q", got)
	}
	if since := n.Status().Problems[0].Since; since.IsZero() {
		t.Error("the problem has no date")
	}
	// The reminder fades when all is well again.
	n.loop.drift.at = time.Now().Add(-2 * driftShown)
	n.loop.check()
	n.loop.reconcile()
	if got := reasonsOf(n); got != "" {
		t.Errorf("problems are %q", got)
	}
}

// A map that refuses writes stops the plan half-way; what was programmed before
// keeps working, the error is shown, and the loop comes back to it.
func TestFailedPlanIsShownAndTriedAgain(t *testing.T) {
	r := newRig(t)
	n := r.still()
	r.step(n, cart)
	if err := r.pinned(bpf.MapSplits).Freeze(); err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(cart, "    90 ", "    50 ", 1)
	first := r.step(n, changed)
	second := n.loop.reconcile()
	if first != firstRetry || second != 2*firstRetry {
		t.Errorf("retries after %v and %v", first, second)
	}
	status := n.Status()
	if !strings.Contains(status.Plan.Error, bpf.MapSplits) || reasonsOf(n) != "PlanNotApplied" {
		t.Errorf("plan is %+v, problems %s", status.Plan, reasonsOf(n))
	}
	agrees(t, n)
	if w := n.View().Index.Ports[0].Backends[0].Weight; w != 90 {
		t.Errorf("weight %d is shown, 90 is in force", w)
	}
	// Back to what can be: no error is left.
	if wait := r.step(n, cart); wait != 0 {
		t.Errorf("retry after %v", wait)
	}
	if got := reasonsOf(n); got != "" {
		t.Errorf("problems are %q", got)
	}
}

func TestFullMapKeepsWhatIsProgrammed(t *testing.T) {
	r := newRig(t)
	r.config.MaxServices = 1
	n := r.still()
	r.step(n, cart)
	r.step(n, cart+`
service shop/another 10.96.0.2
  port http 80/tcp
    1 shop/cart/80/tcp shop/cart:80
`)
	status := n.Status()
	if reasonsOf(n) != "MapFull" || !strings.Contains(status.Problems[0].Detail, "--max-services") || status.Problems[0].Object != "Service shop/another" {
		t.Errorf("problems are %+v", status.Problems)
	}
	if ports := n.View().Index.Ports; len(ports) != 1 || ports[0].Name != "cart" {
		t.Errorf("programmed are %v", ports)
	}
	var lacks feed.Incomplete
	if err := n.loop.incomplete(nil); !errors.As(err, &lacks) || len(lacks) != 1 || lacks["shop/another"] == "" {
		t.Errorf("not in force: %v, want shop/another alone", err)
	}
	agrees(t, n)
	// The one that was there goes: the other gets its place at once.
	r.step(n, `
node node1
service shop/another 10.96.0.2
  port http 80/tcp
    1 shop/cart/80/tcp shop/cart:80
cluster shop/cart/80/tcp
  10.1.0.1:8080
`)
	if ports := n.View().Index.Ports; len(ports) != 1 || ports[0].Name != "another" || reasonsOf(n) != "" {
		t.Errorf("programmed are %v, problems %s", ports, reasonsOf(n))
	}
	agrees(t, n)
}

// Only a change of shares starts their observation anew.
func TestRecordsFollowShares(t *testing.T) {
	r := newRig(t)
	n := r.still()
	r.step(n, cart)
	key := func() time.Time {
		for _, record := range n.View().Records {
			return record.Programmed
		}
		t.Fatal("no record")
		return time.Time{}
	}
	first := key()
	r.step(n, strings.Replace(cart, "  10.1.0.2:8080\n", "", 1))
	if key() != first {
		t.Error("an endpoint changed the shares")
	}
	r.step(n, strings.Replace(cart, "    10 ", "    20 ", 1))
	if !key().After(first) {
		t.Error("a weight did not change the shares")
	}
	r.step(n, "node node1\n")
	if n := len(n.View().Records); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
}

// A state from disk does not replace programmed tables at once: they may be
// newer.
func TestStateFromDiskWaitsForTheServer(t *testing.T) {
	r := newRig(t)
	n := r.still()
	r.step(n, cart)
	n.Close()

	n = r.still()
	old, err := statetest.Parse("node node1\n")
	if err != nil {
		t.Fatal(err)
	}
	n.loop.take(feed.Update{Snapshot: old, FromCache: true})
	if wait := n.loop.reconcile(); wait <= 0 || wait > cacheGrace {
		t.Errorf("waits %v", wait)
	}
	if len(n.loop.current.Services) != 1 {
		t.Error("the old state is in force")
	}
	n.loop.graceEnds = time.Now()
	n.loop.reconcile()
	if len(n.loop.current.Services) != 0 {
		t.Error("the old state is not in force although nobody else came")
	}
}
