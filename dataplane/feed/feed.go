package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// Options says what to follow. Node and Server are required.
type Options struct {
	Server string      // unix:///path or host:port
	Node   string      // this node's name; the server scopes resources by it
	Cache  string      // file for the last good state; empty: none
	TLS    *tls.Config // nil: plaintext, for unix sockets and loopback only
	Log    *slog.Logger

	// Credentials say who this node is, beside TLS; nil: nothing.
	Credentials credentials.PerRPCCredentials
	// Endpoints finds the addresses of a server that is named
	// endpoints:NAMESPACE/SERVICE:PORT; nil: such a server is refused.
	Endpoints resolver.Builder

	// Confirm: a response is acknowledged when Applied says that the state with it
	// is in force, not already when it was accepted.
	Confirm bool
}

// Validate reports everything that is wrong with o.
func (o Options) Validate() error {
	_, err := target(o)
	return errors.Join(checkName("node name (--node)", o.Node, maxName), err)
}

// Update is a new state to put in force.
type Update struct {
	Snapshot *state.Snapshot
	Seq      uint64    // for Applied; later updates have higher ones
	Arrived  time.Time // when its newest change came
	// FromCache: part of it was read from disk and not yet confirmed by the
	// server, so it may be older than what the kernel already has.
	FromCache bool
}

// Feed follows one server. Create it with New, start it once with Run; the
// other methods may be called from any goroutine at any time.
type Feed struct {
	o       Options
	updates chan Update
	wake    chan struct{} // for settle: look at the deadlines again
	answers chan struct{} // for the stream: there are answers to send

	mu struct {
		sync.Mutex
		store     *store
		holds     holds
		published *state.Snapshot // nil before the first
		seq       uint64          // of published
		applied   applied
		waiting   []*waiting // what this stream has to answer, or may have to again
		holdUntil time.Time  // zero: nothing held

		confirmed  map[string]bool // types answered by the server since start
		answered   map[string]bool // types answered on this stream
		fromCache  bool            // the store came from disk
		journal    *journal        // nil: none was asked for
		unsaved    bool            // the journal is not on the disk yet
		cacheError error           // of the last read or write of the file

		status admin.Feed // the counters and times; the rest is filled in by Status
	}
}

// New returns a feed that knows what the cache knows.
func New(o Options) (*Feed, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Feed{o: o, updates: make(chan Update, 1), wake: make(chan struct{}, 1), answers: make(chan struct{}, 1)}
	f.mu.store = newStore(o.Node)
	f.mu.confirmed = make(map[string]bool)
	f.mu.answered = make(map[string]bool)
	f.mu.status.Server = o.Server
	f.mu.status.Since = time.Now()
	f.loadCache()
	return f, nil
}

// Updates delivers states to put in force. Only the newest is kept: who reads
// late misses intermediate ones. Nothing is delivered before every type is
// known from the server or from disk.
func (f *Feed) Updates() <-chan Update { return f.updates }

// Run follows the server until ctx ends, reconnecting for ever. It returns
// after the cache was written a last time.
func (f *Feed) Run(ctx context.Context) error {
	conn, err := dial(f.o)
	if err != nil {
		return err
	}
	defer conn.Close()
	var settling sync.WaitGroup
	settling.Go(func() { f.settle(ctx) })
	f.follow(ctx, conn)
	settling.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.journal != nil {
		f.mu.journal.close()
	}
	return nil
}

// accept takes one response in force and prepares the answer to it.
func (f *Feed) accept(response *discovery.DeltaDiscoveryResponse) {
	now := time.Now()
	answer := &discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}
	f.mu.Lock()
	defer f.mu.Unlock()
	table := f.mu.store.of(response.TypeUrl)
	if table == nil {
		err := fmt.Errorf("type %q was not asked for", printable(response.TypeUrl))
		f.refuseLocked(now, answer, []refusal{{response.TypeUrl, "", err}})
		f.answerLocked(answer, 0)
		return
	}
	if !f.mu.answered[response.TypeUrl] {
		// It holds everything that differs, so also what was refused before and
		// is still there.
		f.mu.answered[response.TypeUrl] = true
		table.forgive()
	}
	var bad []refusal
	accepted := &discovery.DeltaDiscoveryResponse{TypeUrl: response.TypeUrl, RemovedResources: response.RemovedResources}
	for _, r := range response.Resources {
		if err := table.put(r); err != nil {
			bad = append(bad, refusal{response.TypeUrl, printable(r.GetName()), err})
			continue
		}
		accepted.Resources = append(accepted.Resources, r)
	}
	for _, name := range response.RemovedResources {
		table.remove(name)
	}
	if len(bad) > 0 {
		f.refuseLocked(now, answer, bad)
	}
	changed := len(response.Resources) > 0 || len(response.RemovedResources) > 0
	first := !f.mu.confirmed[response.TypeUrl]
	f.mu.confirmed[response.TypeUrl] = true
	if changed || first {
		f.keepLocked(accepted)
		f.publishLocked(now)
	}
	after := uint64(0)
	if f.o.Confirm {
		// Before every type is known there is nothing to put in force: the
		// state that is published next holds this too.
		if after = f.mu.seq; !f.readyLocked() {
			after++
		}
	}
	f.answerLocked(answer, after)
}

// maxNackText bounds the error sent to the server.
const maxNackText = 4096

// refuseLocked turns answer into a NACK that names every bad resource.
func (f *Feed) refuseLocked(now time.Time, answer *discovery.DeltaDiscoveryRequest, bad []refusal) {
	var text []byte
	var names []string
	for _, b := range bad {
		names = append(names, b.name)
	}
	for i, b := range bad {
		line := fmt.Sprintf("%s: %v; ", b.name, b.err)
		if len(text)+len(line) > maxNackText {
			text = fmt.Appendf(text, "and %d more; ", len(bad)-i)
			break
		}
		text = append(text, line...)
	}
	answer.ErrorDetail = refusalOf(codes.InvalidArgument,
		fmt.Sprintf("%d resources refused, their last good version stays: %s", len(bad), text[:len(text)-2]), names)
	f.mu.status.Nacks++
	last := bad[len(bad)-1]
	f.mu.status.LastNack = &admin.Nack{
		Time:     now,
		Type:     typeName(printable(last.typeURL)),
		Resource: last.name,
		Error:    last.err.Error(),
	}
	f.o.Log.Warn("resources from the control plane refused; their last good version stays",
		"type", printable(answer.TypeUrl), "refused", len(bad), "last", last.name, "error", last.err)
}

// readyLocked reports whether every type is known.
func (f *Feed) readyLocked() bool {
	return f.mu.fromCache || f.confirmedLocked()
}

// confirmedLocked reports whether the server answered for every type.
func (f *Feed) confirmedLocked() bool {
	return len(f.mu.confirmed) == len(xds.Types)
}

// publishLocked delivers the store's contents, if it is complete.
func (f *Feed) publishLocked(now time.Time) {
	if !f.readyLocked() {
		return
	}
	next := f.snapshotLocked(now)
	f.mu.published = next
	f.mu.seq++
	select { // latest wins
	case <-f.updates:
	default:
	}
	f.updates <- Update{Snapshot: next, Seq: f.mu.seq, Arrived: now, FromCache: f.mu.fromCache && !f.confirmedLocked()}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// snapshotLocked shares the store's maps: nobody changes them once published.
func (f *Feed) snapshotLocked(now time.Time) *state.Snapshot {
	s, prev := f.mu.store, f.mu.published
	next := &state.Snapshot{Node: state.Node{Name: f.o.Node}}
	if n, ok := s.nodes.values[f.o.Node]; ok {
		next.Node = n
	}
	next.Workloads, next.Services, next.Clusters = s.workloads.share(), s.services.share(), s.clusters.share()
	services, _ := s.services.takeChanged()
	_, gone := s.clusters.takeChanged()
	if prev != nil && !services && !gone && len(f.mu.holds.since) == 0 && f.mu.holdUntil.IsZero() {
		return next // every service has its clusters still
	}
	next.Services, next.Clusters, f.mu.holdUntil = f.mu.holds.settle(now, prev, next.Services, next.Clusters)
	return next
}

// settle does what is due after a while: it ends holds and writes the cache.
func (f *Feed) settle(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextSave time.Time
	for {
		select {
		case <-ctx.Done():
			if f.unsaved() {
				f.saveCache()
			}
			return
		case <-f.wake:
		case <-timer.C:
		}
		now := time.Now()
		f.endHolds(now)
		if f.unsaved() && !now.Before(nextSave) {
			// A big cache on a slow disk takes at most a tenth of the time.
			took := f.saveCache()
			nextSave = time.Now().Add(max(cacheEvery, 10*took))
		}
		if at := f.deadline(nextSave); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}
}

func (f *Feed) unsaved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.unsaved
}

// endHolds publishes again when a hold has run out.
func (f *Feed) endHolds(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.holdUntil.IsZero() && !now.Before(f.mu.holdUntil) {
		f.publishLocked(now)
	}
}

// deadline returns when settle must run again; zero: on the next wake.
func (f *Feed) deadline(nextSave time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.mu.holdUntil
	if f.mu.unsaved && (at.IsZero() || nextSave.Before(at)) {
		at = nextSave
	}
	return at
}

// Status returns the state of the stream.
func (f *Feed) Status() admin.Feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.mu.status
	s.Synced = f.readyLocked()
	s.FromCache = f.mu.fromCache && !f.confirmedLocked()
	s.Resources = f.mu.store.size()
	if s.LastNack != nil {
		nack := *s.LastNack
		s.LastNack = &nack
	}
	return s
}

// Problems lists refused resources, services that wait for a cluster and a
// cache that cannot be used. Since is left to the caller.
func (f *Feed) Problems() []admin.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []admin.Problem
	for _, r := range f.mu.store.refusals() {
		out = append(out, admin.Problem{
			Object: typeName(r.typeURL) + " " + r.name,
			Reason: "ResourceRefused",
			Detail: fmt.Sprintf("the control plane's version does not decode, the last good one stays in force: %v", r.err),
		})
	}
	for name := range f.mu.holds.since {
		out = append(out, admin.Problem{
			Object: "Service " + name,
			Reason: "ClusterMissing",
			Detail: "the control plane names a cluster that it did not send",
		})
	}
	if f.mu.cacheError != nil {
		out = append(out, admin.Problem{
			Object: "file " + f.o.Cache,
			Reason: "CacheUnusable",
			Detail: f.mu.cacheError.Error(),
		})
	}
	slices.SortFunc(out, func(a, b admin.Problem) int { return strings.Compare(a.Object, b.Object) })
	return out
}
