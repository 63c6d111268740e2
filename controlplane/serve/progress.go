package serve

import (
	"maps"
	"reflect"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"heddle.io/heddle/api/xds"
)

// overtaken stands for the nonce of a response that is not the last one of its
// type: the answer to it says nothing about what the node has now.
const overtaken = "overtaken"

// notInForce reports whether a node took a response, and could not put the state
// with it in force: but for the Services that it names, or, if it names none, all
// of it. That ends with the next answer that says something else. Any other refusal
// is of what the response holds: the node has the rest.
func notInForce(request *discovery.DeltaDiscoveryRequest) bool {
	return request.ErrorDetail.GetCode() == int32(codes.Internal)
}

// acknowledgedLocked notes what a request acknowledges, but for what it refuses
// ([resources.answered]). known is what the node was sent.
func (r *resources) acknowledgedLocked(request *cache.DeltaRequest, known map[string]string) {
	if request.ResponseNonce == "" {
		r.claimedLocked(request)
		return
	}
	if request.ResponseNonce == overtaken {
		return
	}
	node := request.GetNode().GetId()
	if notInForce(request) {
		lacks := refusedNames(request)
		if lacks == nil {
			return
		}
		r.lacksLocked(node, lacks)
	} else if request.ErrorDetail == nil {
		r.lacksLocked(node, nil)
	}
	if r.mu.acked[node] == nil {
		r.mu.acked[node] = make(map[string]map[string]string, len(xds.Types))
	}
	if !sameMap(r.mu.acked[node][request.TypeUrl], known) {
		r.mu.acked[node][request.TypeUrl] = known
		r.changes.Add(1)
	}
}

// refusals are the versions of resources that a node refused, and that nothing it
// said since has made up for. They are replaced, never changed.
type refusals map[Ref]string

// lacksLocked notes which Services do not fit on a node.
func (r *resources) lacksLocked(node string, names map[string]bool) {
	if maps.Equal(names, r.mu.lacks[node]) {
		return
	}
	if r.mu.lacks[node] = names; len(names) == 0 {
		delete(r.mu.lacks, node)
	}
	r.changes.Add(1)
}

// answered notes what a node says about the resources of the last response of a
// type: an acceptance makes up for earlier refusals of the same resources only.
func (r *resources) answered(node string, request *discovery.DeltaDiscoveryRequest, sent *discovery.DeltaDiscoveryResponse) {
	if sent == nil {
		return
	}
	named := refusedNames(request)
	if notInForce(request) {
		if named == nil {
			return
		}
		// All of the response was taken. Its Services that do not fit are those of
		// lacks, as long as they do not.
		named = map[string]bool{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := maps.Clone(r.mu.refused[node])
	for _, resource := range sent.Resources {
		ref := Ref{request.TypeUrl, resource.Name}
		if request.ErrorDetail == nil || named != nil && !named[resource.Name] {
			delete(next, ref)
			continue
		}
		if next == nil {
			next = make(refusals)
		}
		next[ref] = resource.Version
	}
	for _, name := range sent.RemovedResources {
		delete(next, Ref{request.TypeUrl, name})
	}
	r.refusedLocked(node, next)
}

// claimedLocked makes up for refusals of what a node says that it has, when it
// connects.
func (r *resources) claimedLocked(request *discovery.DeltaDiscoveryRequest) {
	node := request.GetNode().GetId()
	next := maps.Clone(r.mu.refused[node])
	maps.DeleteFunc(next, func(ref Ref, version string) bool {
		return ref.Type == request.TypeUrl && request.InitialResourceVersions[ref.Name] == version
	})
	r.refusedLocked(node, next)
}

func (r *resources) refusedLocked(node string, next refusals) {
	if maps.Equal(next, r.mu.refused[node]) {
		return
	}
	if r.mu.refused[node] = next; len(next) == 0 {
		delete(r.mu.refused, node)
	}
	r.changes.Add(1)
}

// refusedNames returns the resources that a refusal names; nil: it names none, and
// means all.
func refusedNames(request *discovery.DeltaDiscoveryRequest) map[string]bool {
	for _, detail := range request.ErrorDetail.GetDetails() {
		var bad errdetails.BadRequest
		if !detail.MessageIs(&bad) || detail.UnmarshalTo(&bad) != nil || len(bad.FieldViolations) == 0 {
			continue
		}
		names := make(map[string]bool, len(bad.FieldViolations))
		for _, v := range bad.FieldViolations {
			names[v.Field] = true
		}
		return names
	}
	return nil
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
	refused, lacks := maps.Clone(r.mu.refused), maps.Clone(r.mu.lacks)
	r.mu.Unlock()

	// What follows reads what nobody changes any more.
	members := make(map[string][]string) // audience -> nodes
	for node, list := range audiences {
		for _, a := range list {
			members[a] = append(members[a], node)
		}
	}
	alike := groups(acked, refused, lacks)
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
// few groups however many nodes there are. A node that refused something is one
// by itself.
type group struct {
	acked   map[string]map[string]string
	refused refusals
	lacks   map[string]bool // Services that do not fit
	nodes   []string
}

func groups(acked map[string]map[string]map[string]string, refused map[string]refusals, lacks map[string]map[string]bool) []*group {
	type key [6]uintptr
	byKey := make(map[key]*group)
	for node, byType := range acked {
		var k key
		for i, typeURL := range xds.Types {
			k[i] = reflect.ValueOf(byType[typeURL]).Pointer()
		}
		k[len(xds.Types)] = reflect.ValueOf(refused[node]).Pointer()
		k[len(xds.Types)+1] = reflect.ValueOf(lacks[node]).Pointer()
		if byKey[k] == nil {
			byKey[k] = &group{acked: byType, refused: refused[node], lacks: lacks[node]}
		}
		byKey[k].nodes = append(byKey[k].nodes, node)
	}
	return slices.Collect(maps.Values(byKey))
}

// has reports whether a resource is in force: this version, and any version of the
// clusters that it names. Without those the node keeps what it had before. Of a
// cluster of which the last version was refused, nobody knows whether it has one.
func (g *group) has(ref Ref, e *entry) bool {
	if g.acked[ref.Type][ref.Name] != e.resource.Version || g.refused[ref] == e.resource.Version {
		return false
	}
	s, ok := e.message.(*xds.Service)
	if !ok {
		return true
	}
	if g.lacks[ref.Name] {
		return false
	}
	for _, p := range s.Ports {
		for _, c := range p.Clusters {
			version, known := g.acked[xds.ClusterType][c.Cluster]
			if c.Cluster != "" && (!known || g.refused[Ref{xds.ClusterType, c.Cluster}] == version) {
				return false
			}
		}
	}
	return true
}
