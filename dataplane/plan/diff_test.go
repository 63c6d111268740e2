package plan

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state/statetest"
)

var cases = flag.Uint64("cases", 400, "how many random walks to watch; the nightly run takes a million")

// The promise of Diff, over random walks. A failure names its seed.
func TestDiffPromise(t *testing.T) {
	for seed := range *cases {
		walk{T: t, seed: seed, r: rand.New(rand.NewPCG(seed, 0))}.run()
	}
}

// walk goes from one random snapshot to the next, with pods that come and go
// and limits that are sometimes tight, and watches every operation.
type walk struct {
	*testing.T
	seed uint64
	r    *rand.Rand
}

// fail names the seed.
func (w walk) fail(format string, args ...any) {
	w.Helper()
	w.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

func (w walk) run() {
	limits := plenty
	if w.r.IntN(2) == 0 {
		limits = Limits{Pods: w.r.IntN(4), Services: w.r.IntN(16), Splits: w.r.IntN(8),
			Clusters: w.r.IntN(12), Endpoints: w.r.IntN(30), Members: w.r.IntN(30)}
	}
	k := newKernel(limits)
	current := NewContents()
	s := statetest.Random(w.r)
	for range 8 {
		pods := randomPods(w.r)
		want, _, _ := Build(s, pods, limits, current)
		for range 20 {
			if !want.Deferred {
				break
			}
			w.step(k, current, want)
			current = want
			want, _, _ = Build(s, pods, limits, current)
		}
		if want.Deferred {
			w.fail("the plan is deferred for ever:\n%s", s)
		}
		w.step(k, current, want)
		again, _, _ := Build(s, pods, limits, want)
		if ops := Diff(want, again); len(ops) > 0 {
			w.fail("building again changes %v", ops)
		}
		current = want
		s = statetest.Mutate(w.r, s)
	}
}

// step applies one difference and checks the promise of Diff at every
// operation, and that a batch that is cut off there is finished from what was
// read back.
func (w walk) step(k *kernel, current, want *Contents) {
	before := k.clone()
	after := k.clone()
	ops := Diff(current, want)
	for _, op := range ops {
		if err := after.apply(op); err != nil {
			w.fail("%v", err)
		}
	}
	if got := after.read(); !same(got, want) {
		w.fail("applied\n%s\nwant\n%s", got.Text(nil), want.Text(nil))
	}
	watch := newWatch(before, after)
	if err := watch.check(k); err != nil {
		w.fail("before any operation: %v", err)
	}
	cut := w.r.IntN(len(ops) + 1)
	for i, op := range ops {
		if i == cut {
			w.resume(k, want)
		}
		if op.Wait {
			watch.forget()
		}
		if err := k.apply(op); err != nil {
			w.fail("%v", err)
		}
		if err := watch.check(k); err != nil {
			w.fail("after operation %d of %d %s: %v\n%v", i+1, len(ops), op, err, ops)
		}
	}
}

// resume finishes a batch from what the tables hold in the middle of it.
func (w walk) resume(k *kernel, want *Contents) {
	k = k.clone()
	for _, op := range Diff(k.read(), want) {
		if err := k.apply(op); err != nil {
			w.fail("resumed: %v", err)
		}
	}
	if got := k.read(); !same(got, want) {
		w.fail("resumed\n%s\nwant\n%s", got.Text(nil), want.Text(nil))
	}
}

// watch knows what every client may meet during a batch: an entry and a split
// from before or after it.
type watch struct {
	before, after *kernel
	allowed       map[client]allowance
	seen          map[client]map[uint64]bool // clusters that a connect() may be about to use
}

type allowance struct {
	service, none bool // there may be a service, there may be none
	answer
}

func newWatch(before, after *kernel) *watch {
	w := &watch{before: before, after: after, allowed: map[client]allowance{}}
	keys, scopes := map[bpf.ServiceKey]bool{}, map[uint64]bool{0: true, 1: true}
	for _, k := range []*kernel{before, after} {
		for key := range k.elements[bpf.MapServices] {
			key := key.(bpf.ServiceKey)
			scopes[key.Scope] = true
			key.Scope = 0
			keys[key] = true
		}
	}
	for key := range keys {
		for scope := range scopes {
			c := client{scope, key}
			w.allowed[c] = w.allow(c)
		}
	}
	w.forget()
	return w
}

func (w *watch) allow(c client) allowance {
	a := allowance{answer: answer{clusters: map[uint64]bool{}}}
	for _, k := range []*kernel{w.before, w.after} {
		val, ok := k.find(c)
		if !ok {
			a.none = true
			continue
		}
		a.service = true
		for _, k := range []*kernel{w.before, w.after} {
			if got, err := k.follow(val); err == nil {
				a.refused = a.refused || got.refused
				maps.Copy(a.clusters, got.clusters)
			}
		}
	}
	return a
}

// forget is the wait: connects that were being decided have finished.
func (w *watch) forget() { w.seen = map[client]map[uint64]bool{} }

func (w *watch) check(k *kernel) error {
	for c, allowed := range w.allowed {
		where := Text(c.key, nil)
		val, ok := k.find(c)
		if ok && !allowed.service || !ok && !allowed.none {
			return fmt.Errorf("%s: is a service: %v", where, ok)
		}
		if !ok {
			continue
		}
		now, err := k.follow(val)
		if err != nil {
			return err
		}
		if now.refused && !allowed.refused {
			return fmt.Errorf("%s: refused", where)
		}
		if w.seen[c] == nil {
			w.seen[c] = map[uint64]bool{}
		}
		maps.Copy(w.seen[c], now.clusters)
		for id := range now.clusters {
			if !allowed.clusters[id] {
				return fmt.Errorf("%s: sent to cluster %016x, used neither before nor after", where, id)
			}
		}
		for id := range w.seen[c] {
			if err := w.checkCluster(k, id, allowed.refused); err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
		}
	}
	return nil
}

// checkCluster draws every endpoint of a cluster that a client was sent to a
// moment ago.
func (w *watch) checkCluster(k *kernel, id uint64, mayRefuse bool) error {
	endpoints := k.endpoints(id)
	if len(endpoints) == 0 && !mayRefuse {
		return fmt.Errorf("sent to cluster %016x, which is empty now", id)
	}
	for e := range endpoints {
		if e.Cluster != id {
			return fmt.Errorf("cluster %016x counts a slot that is not there: %s", id, Text(e, nil))
		}
		if !w.before.endpoints(id)[e] && !w.after.endpoints(id)[e] {
			return fmt.Errorf("endpoint %s is in cluster %016x neither before nor after", Text(e, nil), id)
		}
	}
	return nil
}

func randomPods(r *rand.Rand) []Pod {
	var pods []Pod
	for range r.IntN(4) {
		n := 1 + r.IntN(6)
		pods = append(pods, Pod{
			Namespace: []string{"shop", "bank", "web"}[r.IntN(3)], Name: fmt.Sprintf("pod-%d", n),
			Netns: uint64(n), Ifindex: uint32(r.IntN(6)),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 2, 0, byte(n)})},
			Bypass:    r.IntN(2) == 0,
		})
	}
	return pods
}

// Elements that vanished, changed or appeared in the tables are put right.
func TestDiffHeals(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		s := statetest.Random(r)
		want, _, _ := Build(s, randomPods(r), plenty, nil)
		k := newKernel(plenty)
		for _, op := range Diff(nil, want) {
			if err := k.apply(op); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{bpf.MapServices, bpf.MapSplits, bpf.MapClusters, bpf.MapEndpoints, bpf.MapPods, bpf.MapIfStats, bpf.MapBypass} {
			for key := range k.elements[name] {
				if r.IntN(3) == 0 {
					delete(k.elements[name], key)
				}
			}
		}
		for id := range k.elements[bpf.MapClusters] {
			if r.IntN(3) == 0 {
				k.elements[bpf.MapClusters][id] = bpf.ClusterVal{Count: r.Uint32()}
			}
		}
		k.elements[bpf.MapEndpoints][slot(99, 3)] = bpf.EndpointVal{Cluster: 99}
		for _, op := range Diff(k.read(), want) {
			if err := k.apply(op); err != nil {
				t.Fatal(err)
			}
		}
		if got := k.read(); !same(got, want) {
			t.Fatalf("healed\n%s\nwant\n%s", got.Text(nil), want.Text(nil))
		}
	}
}
