package serve

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"heddle.io/heddle/controlplane/translate"
)

// An entry is a resource in its encoded form. It is never changed, so all
// streams share it.
type entry struct {
	message   proto.Message // what was encoded, to see whether it is the same again
	resource  *discovery.Resource
	audiences []string
}

// A table holds the resources of one type. Once it is in use, only views change.
type table struct {
	entries    map[string]*entry // by name
	byAudience map[string][]*entry
	// views are those of the connected nodes, by audiences. Nodes with the same
	// audiences share one.
	views map[string]*view
}

// A view is what nodes with certain audiences get of one type. It is never
// changed.
type view struct {
	audiences []string
	entries   map[string]*entry
	versions  map[string]string // by name; shared with the state of every stream
}

func newTable() *table {
	return &table{entries: make(map[string]*entry), byAudience: make(map[string][]*entry), views: make(map[string]*view)}
}

// next returns the table for new resources, and how many had to be encoded. When
// nothing changed it is the same table. Otherwise it has those views that the
// change does not concern.
func (t *table) next(resources []translate.Resource) (*table, int, error) {
	if t.has(resources) {
		return t, 0, nil
	}
	n := &table{entries: make(map[string]*entry, len(resources)), byAudience: make(map[string][]*entry), views: make(map[string]*view)}
	concerned := make(map[string]bool) // audiences of what changed
	encoded := 0
	for _, r := range resources {
		old := t.entries[r.Name]
		e, fresh, err := old.next(r)
		if err != nil {
			return nil, 0, err
		}
		if fresh {
			encoded++
		}
		if e != old {
			concern(concerned, old)
			concern(concerned, e)
		}
		n.entries[r.Name] = e
		for _, a := range e.audiences {
			n.byAudience[a] = append(n.byAudience[a], e)
		}
	}
	for name, old := range t.entries {
		if n.entries[name] == nil {
			concern(concerned, old)
		}
	}
	if len(concerned) == 0 {
		return t, 0, nil
	}
	for key, v := range t.views {
		if !slices.ContainsFunc(v.audiences, func(a string) bool { return concerned[a] }) {
			n.views[key] = v
		}
	}
	return n, encoded, nil
}

// has reports whether these are the resources of the table, message by message:
// most changes leave most types alone.
func (t *table) has(resources []translate.Resource) bool {
	if len(resources) != len(t.entries) {
		return false
	}
	for i := range resources {
		r := &resources[i]
		if e := t.entries[r.Name]; e == nil || e.message != r.Message || !slices.Equal(e.audiences, r.Audiences) {
			return false
		}
	}
	return true
}

func concern(audiences map[string]bool, e *entry) {
	if e != nil {
		for _, a := range e.audiences {
			audiences[a] = true
		}
	}
}

// next returns the entry for a new version of a resource, e itself if it is the
// same. e may be nil. It tells whether the resource had to be encoded.
func (e *entry) next(r translate.Resource) (*entry, bool, error) {
	if e != nil && (e.message == r.Message || proto.Equal(e.message, r.Message)) {
		if slices.Equal(e.audiences, r.Audiences) {
			return e, false, nil
		}
		return &entry{e.message, e.resource, r.Audiences}, false, nil
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
	if err != nil {
		return nil, false, fmt.Errorf("encoding %s %s: %w", r.Type, r.Name, err)
	}
	sum := sha256.Sum256(value)
	return &entry{
		message: r.Message,
		resource: &discovery.Resource{
			Name:     r.Name,
			Version:  base64.RawURLEncoding.EncodeToString(sum[:12]),
			Resource: &anypb.Any{TypeUrl: r.Type, Value: value},
		},
		audiences: r.Audiences,
	}, true, nil
}

// view returns what a node of these audiences gets.
func (t *table) view(audiences []string) *view {
	var relevant []string // most of a node's audiences have no resource of this type
	for _, a := range audiences {
		if len(t.byAudience[a]) > 0 {
			relevant = append(relevant, a)
		}
	}
	key := strings.Join(relevant, " ")
	if v := t.views[key]; v != nil {
		return v
	}
	v := &view{audiences: relevant, entries: make(map[string]*entry), versions: make(map[string]string)}
	for _, a := range relevant {
		for _, e := range t.byAudience[a] {
			v.entries[e.resource.Name] = e
			v.versions[e.resource.Name] = e.resource.Version
		}
	}
	t.views[key] = v
	return v
}

// retain drops the views that none of the nodes has any more.
func (t *table) retain(nodes map[string][]string) {
	if len(t.views) <= len(nodes) {
		return
	}
	used := make(map[*view]bool, len(nodes))
	for _, audiences := range nodes {
		used[t.view(audiences)] = true
	}
	maps.DeleteFunc(t.views, func(_ string, v *view) bool { return !used[v] })
}

// A difference is what a node lacks.
type difference struct {
	resources []*discovery.Resource
	removed   []string
	size      int // bytes of the resources
}

func (d *difference) empty() bool { return len(d.resources) == 0 && len(d.removed) == 0 }

// missing returns what a node that has these versions lacks of the view, in the
// order of names.
func (v *view) missing(known map[string]string) *difference {
	d := &difference{}
	for name, version := range v.versions {
		if known[name] != version {
			r := v.entries[name].resource
			d.resources = append(d.resources, r)
			d.size += len(r.Name) + len(r.Version) + len(r.Resource.TypeUrl) + len(r.Resource.Value) + 32
		}
	}
	for name := range known {
		if _, stays := v.versions[name]; !stays {
			d.removed = append(d.removed, name)
			d.size += len(name) + 8
		}
	}
	slices.SortFunc(d.resources, func(a, b *discovery.Resource) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(d.removed)
	return d
}
