package source

import (
	"maps"
	"sync"
	"time"
)

// An inbox is where the watches leave what they learn, and the goroutine of the
// source finds it: of each object the newest only, so it is never larger than the
// cluster.
type inbox struct {
	wake chan struct{} // holds one: something is there

	mu struct {
		sync.Mutex
		changes map[id]change
		kinds   map[string]contact
	}
}

// A contact is how the API server answers about a kind.
type contact struct {
	synced bool  // all its objects were delivered once
	absent bool  // there is no such kind
	err    error // of the newest request; nil: it was answered
}

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1)}
	b.mu.changes = make(map[id]change)
	b.mu.kinds = make(map[string]contact)
	return b
}

// leave adds changes, all of them or, to a reader, none.
func (b *inbox) leave(changes map[id]change) {
	b.mu.Lock()
	maps.Copy(b.mu.changes, changes)
	b.mu.Unlock()
	if len(changes) > 0 {
		b.ring()
	}
}

// note changes what is known of the contact about a kind. It wakes the reader
// only when there is something new in it.
func (b *inbox) note(kind string, change func(*contact)) {
	b.mu.Lock()
	before := b.mu.kinds[kind]
	after := before
	change(&after)
	b.mu.kinds[kind] = after
	b.mu.Unlock()
	if before.synced != after.synced || before.absent != after.absent || text(before.err) != text(after.err) {
		b.ring()
	}
}

func (b *inbox) contact(kind string) contact {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.kinds[kind]
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox, but for the contacts.
func (b *inbox) take() (map[id]change, map[string]contact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes := b.mu.changes
	b.mu.changes = make(map[id]change)
	return changes, maps.Clone(b.mu.kinds)
}

// Gathering of changes from an API server: a rollout comes as a stream of them, of
// which each batch costs as much as a single change.
const (
	streamQuiet = 10 * time.Millisecond
	streamMost  = 100 * time.Millisecond
)
