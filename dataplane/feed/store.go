package feed

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// store is the last good version of every resource. Not safe for concurrent
// use; Feed guards it.
type store struct {
	nodes     *table[state.Node]
	workloads *table[state.Workload]
	clusters  *table[state.Cluster]
	services  *table[state.Service]
}

func newStore(node string) *store {
	return &store{
		nodes:     newTable(node, xds.NodeType, decodeNode),
		workloads: newTable(node, xds.WorkloadType, decodeWorkload),
		clusters:  newTable(node, xds.ClusterType, decodeCluster),
		services:  newTable(node, xds.ServiceType, decodeService),
	}
}

// tables lists the store's tables in the order of xds.Types.
func (s *store) tables() []resources {
	return []resources{s.nodes, s.clusters, s.services, s.workloads}
}

// of returns the table of a type, or nil.
func (s *store) of(typeURL string) resources {
	for _, t := range s.tables() {
		if t.typeURL() == typeURL {
			return t
		}
	}
	return nil
}

// size counts the resources of all types.
func (s *store) size() int {
	n := 0
	for _, t := range s.tables() {
		n += len(t.versions())
	}
	return n
}

// bytes is about what the resources take on disk.
func (s *store) bytes() int {
	n := 0
	for _, t := range s.tables() {
		n += t.bytes()
	}
	return n
}

// refusals lists what the server sent last and was not accepted, by type and
// name.
func (s *store) refusals() []refusal {
	var out []refusal
	for _, t := range s.tables() {
		out = append(out, t.refusals()...)
	}
	return out
}

// resources is a table without its value type: what the protocol needs.
type resources interface {
	typeURL() string
	// put accepts r or says why not; the last good version stays then.
	put(r *discovery.Resource) error
	remove(name string)
	versions() map[string]string
	has(name, version string) bool
	bytes() int // of the resources as they are kept on disk, about
	refusals() []refusal
	forgive() // forgets the refusals
}

// refusal is a resource whose present version at the server was not accepted.
type refusal struct {
	typeURL, name string
	err           error
}

// maxRefusals bounds what is remembered for status; further ones are refused
// all the same.
const maxRefusals = 100

type table[T any] struct {
	node    string // for the decoder
	url     string
	decode  func(node, name string, value []byte) (T, error)
	entries map[string]entry
	values  map[string]T // by the same names
	shared  bool         // values belongs to a snapshot too: it is copied before a change
	size    int          // of all entries, encoded
	refused map[string]error
	changed bool // since the last takeChanged
	removed bool // likewise: an entry went
}

// entry is what is known of a value.
type entry struct {
	version string
	size    int // encoded
}

func newTable[T any](node, url string, decode func(node, name string, value []byte) (T, error)) *table[T] {
	return &table[T]{
		node:    node,
		url:     url,
		decode:  decode,
		entries: make(map[string]entry),
		values:  make(map[string]T),
		refused: make(map[string]error),
	}
}

func (t *table[T]) typeURL() string { return t.url }

func (t *table[T]) put(r *discovery.Resource) error {
	name := r.GetName()
	if err := t.accept(r); err != nil {
		if len(t.refused) < maxRefusals {
			t.refused[printable(name)] = err
		}
		return err
	}
	delete(t.refused, name)
	return nil
}

func (t *table[T]) accept(r *discovery.Resource) error {
	switch {
	case len(r.GetName()) > maxKey:
		return fmt.Errorf("resource name has %d bytes, the limit is %d", len(r.Name), maxKey)
	case len(r.GetVersion()) > maxVersion:
		return fmt.Errorf("resource version has %d bytes, the limit is %d", len(r.Version), maxVersion)
	case r.GetResource() == nil:
		return errors.New("resource has no contents")
	case r.Resource.TypeUrl != t.url:
		return fmt.Errorf("resource is a %.100q in a response of %s", r.Resource.TypeUrl, typeName(t.url))
	}
	if _, known := t.entries[r.Name]; !known && len(t.entries) >= maxResources {
		return fmt.Errorf("the limit of %d resources of this type is reached", maxResources)
	}
	value, err := t.decode(t.node, r.Name, r.Resource.Value)
	if err != nil {
		return err
	}
	e := entry{version: r.Version, size: len(r.Name) + len(r.Version) + len(t.url) + len(r.Resource.Value) + 16}
	t.size += e.size - t.entries[r.Name].size
	t.entries[r.Name] = e
	t.own()
	t.values[r.Name] = value
	t.changed = true
	return nil
}

func (t *table[T]) remove(name string) {
	t.changed, t.removed = true, true
	t.size -= t.entries[name].size
	delete(t.entries, name)
	t.own()
	delete(t.values, name)
	delete(t.refused, printable(name))
}

func (t *table[T]) versions() map[string]string {
	out := make(map[string]string, len(t.entries))
	for name, e := range t.entries {
		out[name] = e.version
	}
	return out
}

func (t *table[T]) has(name, version string) bool {
	e, ok := t.entries[name]
	return ok && e.version == version
}

func (t *table[T]) bytes() int { return t.size }

func (t *table[T]) refusals() []refusal {
	var out []refusal
	for _, name := range slices.Sorted(maps.Keys(t.refused)) {
		out = append(out, refusal{t.url, name, t.refused[name]})
	}
	return out
}

func (t *table[T]) forgive() { clear(t.refused) }

// takeChanged tells whether an entry changed, and whether one went, since it was
// called last.
func (t *table[T]) takeChanged() (changed, removed bool) {
	changed, removed = t.changed, t.removed
	t.changed, t.removed = false, false
	return changed, removed
}

// share returns what is known. The map is not changed any more.
func (t *table[T]) share() map[string]T {
	t.shared = true
	return t.values
}

// own makes values ready for a change.
func (t *table[T]) own() {
	if t.shared {
		t.values, t.shared = maps.Clone(t.values), false
	}
}

// printable shortens a name that was not checked yet and may hold anything.
func printable(name string) string {
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // also the controls above ASCII, and what turns the direction
			return '?'
		}
		return r
	}, strings.ToValidUTF8(name, "?"))
}
