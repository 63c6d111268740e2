package serve

import (
	"maps"
	"reflect"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"heddle.io/heddle/api/xds"
)

// overtaken stands for the nonce of a response that is not the last one of its
// type: the answer to it says nothing about what the node has now.
const overtaken = "overtaken"

// acknowledgedLocked notes what a request acknowledges. known is what the node was
// sent.
func (r *resources) acknowledgedLocked(request *cache.DeltaRequest, known map[string]string) {
	if request.ResponseNonce == "" || request.ResponseNonce == overtaken || request.ErrorDetail != nil {
		return
	}
	node := request.GetNode().GetId()
	if r.mu.acked[node] == nil {
		r.mu.acked[node] = make(map[string]map[string]string, len(xds.Types))
	}
	if !sameMap(r.mu.acked[node][request.TypeUrl], known) {
		r.mu.acked[node][request.TypeUrl] = known
		r.changes.Add(1)
	}
}

// Ref names a resource.
type Ref struct{ Type, Name string }

// Progress is how far a resource has come.
type Progress struct {
	Ref
	Version string   // empty: there is no such resource
	Needs   []string // nodes that get it, sorted; also those of other controllers
	// Has are the nodes of this controller that have acknowledged this version,
	// and all that it names; sorted.
	Has []string
}

// Changes counts what may change a Progress.
func (s *Server) Changes() uint64 { return s.resources.changes.Load() }

// Progress returns how far resources have come.
func (s *Server) Progress(refs []Ref) []Progress {
	r := s.resources
	r.mu.Lock()
	tables, audiences := r.mu.tables, r.mu.audiences
	acked := make(map[string]map[string]map[string]string, len(r.mu.acked))
	for node, byType := range r.mu.acked {
		acked[node] = maps.Clone(byType)
	}
	r.mu.Unlock()

	// What follows reads what nobody changes any more.
	members := make(map[string][]string) // audience -> nodes
	for node, list := range audiences {
		for _, a := range list {
			members[a] = append(members[a], node)
		}
	}
	alike := groups(acked)
	out := make([]Progress, len(refs))
	for i, ref := range refs {
		out[i].Ref = ref
		t := tables[ref.Type]
		if t == nil || t.entries[ref.Name] == nil {
			continue
		}
		e := t.entries[ref.Name]
		out[i].Version = e.resource.Version
		for _, a := range e.audiences {
			out[i].Needs = append(out[i].Needs, members[a]...)
		}
		out[i].Needs = distinct(out[i].Needs)
		for _, g := range alike {
			if g.has(ref, e) {
				out[i].Has = append(out[i].Has, g.nodes...)
			}
		}
		slices.Sort(out[i].Has)
	}
	return out
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// A group is nodes that have acknowledged the same: views are shared, so there are
// few groups however many nodes there are.
type group struct {
	acked map[string]map[string]string
	nodes []string
}

func groups(acked map[string]map[string]map[string]string) []*group {
	type key [4]uintptr
	byKey := make(map[key]*group)
	for node, byType := range acked {
		var k key
		for i, typeURL := range xds.Types {
			k[i] = reflect.ValueOf(byType[typeURL]).Pointer()
		}
		if byKey[k] == nil {
			byKey[k] = &group{acked: byType}
		}
		byKey[k].nodes = append(byKey[k].nodes, node)
	}
	return slices.Collect(maps.Values(byKey))
}

// has reports whether a resource is in force: this version, and any version of the
// clusters that it names. Without those the node keeps what it had before.
func (g *group) has(ref Ref, e *entry) bool {
	if g.acked[ref.Type][ref.Name] != e.resource.Version {
		return false
	}
	s, ok := e.message.(*xds.Service)
	if !ok {
		return true
	}
	for _, p := range s.Ports {
		for _, c := range p.Clusters {
			if _, known := g.acked[xds.ClusterType][c.Cluster]; c.Cluster != "" && !known {
				return false
			}
		}
	}
	return true
}
