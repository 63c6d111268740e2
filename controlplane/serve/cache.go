package serve

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/translate"
)

// resources is the cache that go-control-plane's server asks: cache.Cache for
// delta streams. A watch is one question of a stream, "tell me when something
// differs from what I have"; the answer ends it, and the node's acknowledgement
// asks again. So each stream has at most one unacknowledged response of a type,
// and a slow node delays nobody but itself.
type resources struct {
	encoded atomic.Uint64 // resources encoded since start
	batches atomic.Uint64 // calls of set
	changes atomic.Uint64 // of what is served, or acknowledged

	mu struct {
		sync.Mutex
		ready     bool              // set was called
		tables    map[string]*table // by type URL, all of xds.Types
		audiences map[string][]string
		nodes     map[string]int // connected nodes -> streams
		// acked is what nodes acknowledged last, by type: names with versions, the
		// maps of views. It is kept for a node that is away: so is what it has.
		acked   map[string]map[string]map[string]string
		refused map[string]refusals        // by node, of those that refused something
		lacks   map[string]map[string]bool // by node: Services that do not fit there
		watches map[*watch]bool
	}
}

// A watch is a stream that waits. What its node has is view, or known as long as
// there is no view.
type watch struct {
	request *cache.DeltaRequest
	known   map[string]string
	view    *view
	out     chan cache.DeltaResponse
}

func newResources() *resources {
	r := &resources{}
	r.mu.tables = make(map[string]*table, len(xds.Types))
	for _, typeURL := range xds.Types {
		r.mu.tables[typeURL] = newTable()
	}
	r.mu.nodes = make(map[string]int)
	r.mu.watches = make(map[*watch]bool)
	r.mu.refused = make(map[string]refusals)
	r.mu.lacks = make(map[string]map[string]bool)
	r.mu.acked = make(map[string]map[string]map[string]string)
	return r
}

// set puts new resources in place of the old and answers the watches that the
// change concerns.
func (r *resources) set(result *translate.Result) error {
	byType := make(map[string][]translate.Resource, len(xds.Types))
	for _, resource := range result.Resources {
		byType[resource.Type] = append(byType[resource.Type], resource)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[string]*table, len(xds.Types))
	for _, typeURL := range xds.Types {
		t, encoded, err := r.mu.tables[typeURL].next(byType[typeURL])
		if err != nil {
			return err
		}
		next[typeURL] = t
		r.encoded.Add(uint64(encoded))
	}
	concerned := r.concernedLocked(next, result.Audiences)
	r.mu.tables, r.mu.audiences, r.mu.ready = next, result.Audiences, true
	r.batches.Add(1)
	r.changes.Add(1)
	r.wakeLocked(concerned)
	r.retainLocked()
	return nil
}

// concernedLocked returns the types of which a node may get something else than
// before: all of them when an audience changed. Otherwise most changes leave most
// types alone, and there are as many watches of each as there are nodes.
func (r *resources) concernedLocked(next map[string]*table, audiences map[string][]string) []string {
	if !r.mu.ready || !maps.EqualFunc(r.mu.audiences, audiences, slices.Equal[[]string]) {
		return xds.Types
	}
	return slices.DeleteFunc(slices.Clone(xds.Types), func(typeURL string) bool { return r.mu.tables[typeURL] == next[typeURL] })
}

// wakeLocked answers the watches of these types for which something changed. The
// answers are in the order of xds.Types for each stream: what others name comes
// first.
func (r *resources) wakeLocked(concerned []string) {
	type change struct{ from, to *view }
	differences := make(map[change]*difference) // shared by all nodes with the same views
	byType := make(map[string][]*watch, len(xds.Types))
	for w := range r.mu.watches {
		byType[w.request.TypeUrl] = append(byType[w.request.TypeUrl], w)
	}
	for _, typeURL := range concerned {
		for _, w := range byType[typeURL] {
			to := r.viewLocked(w.request)
			if w.view == nil {
				r.answerLocked(w, to, to.missing(w.known))
				continue
			}
			if w.view == to {
				continue
			}
			c := change{w.view, to}
			if differences[c] == nil {
				differences[c] = to.missing(w.view.versions)
			}
			if differences[c].empty() {
				w.view = to // other audiences, the same resources
				continue
			}
			r.answerLocked(w, to, differences[c])
		}
	}
}

func (r *resources) retainLocked() {
	nodes := make(map[string][]string, len(r.mu.nodes))
	for node := range r.mu.nodes {
		nodes[node] = r.audiencesLocked(node)
	}
	for _, t := range r.mu.tables {
		t.retain(nodes)
	}
	for node := range r.mu.acked {
		if r.mu.audiences[node] == nil && r.mu.nodes[node] == 0 {
			delete(r.mu.acked, node)
			delete(r.mu.refused, node)
			delete(r.mu.lacks, node)
		}
	}
}

// audiencesLocked returns the audiences of a node. One that nobody knows has its
// own, so that it gets its resource as soon as it is known.
func (r *resources) audiencesLocked(node string) []string {
	if known, ok := r.mu.audiences[node]; ok {
		return known
	}
	return []string{translate.NodeAudience(node)}
}

func (r *resources) viewLocked(request *cache.DeltaRequest) *view {
	return r.mu.tables[request.TypeUrl].view(r.audiencesLocked(request.Node.GetId()))
}

// answerLocked ends a watch. The channel has room: a stream has one watch of
// each type, and reads all answers before it asks again.
func (r *resources) answerLocked(w *watch, v *view, d *difference) {
	delete(r.mu.watches, w)
	w.out <- &response{
		request:    w.request,
		difference: d,
		versions:   v.versions,
		generation: strconv.FormatUint(r.batches.Load(), 10),
	}
}

// CreateDeltaWatch answers at once if there is a difference, or if this is the
// first question of a type: a node that has everything learns that it does.
func (r *resources) CreateDeltaWatch(request *cache.DeltaRequest, subscription cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.tables[request.TypeUrl] == nil {
		// A newer node asks for a type that this version does not have. It
		// gets no answer, and all that it can get.
		return func() {}, nil
	}
	w := &watch{request: request, known: subscription.ReturnedResources(), out: out}
	r.acknowledgedLocked(request, w.known)
	if r.mu.ready {
		v := r.viewLocked(request)
		d := &difference{}
		if !sameMap(w.known, v.versions) {
			d = v.missing(w.known)
		}
		if first := request.ResponseNonce == ""; first || !d.empty() {
			r.answerLocked(w, v, d)
			return func() {}, nil
		}
		w.view = v
	}
	r.mu.watches[w] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.mu.watches, w)
	}, nil
}

// sameMap reports whether two maps are one and the same. A stream keeps the map of
// the view that it was sent last, so this spares comparing the contents at each
// acknowledgement.
func sameMap(a, b map[string]string) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// CreateWatch refuses: Heddle's nodes speak the delta protocol.
func (r *resources) CreateWatch(*cache.Request, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, errNotDelta
}

// Fetch refuses, as CreateWatch.
func (r *resources) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errNotDelta
}

var errNotDelta = errors.New("only delta xDS is served: use DeltaAggregatedResources")

// join and leave count the streams of a node.
func (r *resources) join(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.nodes[node]++
}

func (r *resources) leave(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.nodes[node]--; r.mu.nodes[node] == 0 {
		delete(r.mu.nodes, node)
	}
}

// count returns how many resources a node gets.
func (r *resources) count(node string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, t := range r.mu.tables {
		n += len(t.view(r.audiencesLocked(node)).versions)
	}
	return n
}

var _ cache.Cache = (*resources)(nil)
