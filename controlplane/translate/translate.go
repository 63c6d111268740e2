package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// Result is what follows from a snapshot. It is not changed once made.
type Result struct {
	// Resources are ordered by type, as in xds.Types, then by name.
	Resources []Resource
	// Audiences lists, for each node, the audiences that it belongs to, sorted.
	Audiences map[string][]string
	// Problems are sorted, and at most 200 of them have the same reason. All are
	// all of them, which the status of objects needs.
	Problems, All []model.Problem
}

// Resource is an xDS resource and who needs it.
type Resource struct {
	Type, Name string
	Message    proto.Message
	Audiences  []string // at least one, sorted
}

// Mesh is the audience of nodes with a pod in the mesh.
const Mesh = "mesh"

// NodeAudience is the audience that only one node belongs to.
func NodeAudience(node string) string { return "node:" + node }

// NamespaceAudience is the audience of nodes with a pod of the namespace in the
// mesh.
func NamespaceAudience(namespace string) string { return "ns:" + namespace }

// Build translates a snapshot.
func Build(s *model.Snapshot) *Result {
	return new(Translator).Build(s)
}

// build collects a Result.
type build struct {
	*model.Index
	byType    [4][]Resource              // in the order of xds.Types
	audiences map[string]map[string]bool // node -> audiences
	clusters  map[string]*cluster        // those in use, by name
	policies  map[target]*model.TrafficPolicy
	problems  []model.Problem

	before, after *Translator
}

// Indexes of byType.
const (
	nodeType = iota
	clusterType
	serviceType
	workloadType
)

func (b *build) emit(kind int, name string, m proto.Message, audiences ...string) {
	b.byType[kind] = append(b.byType[kind], Resource{Type: xds.Types[kind], Name: name, Message: m, Audiences: audiences})
}

func (b *build) problem(object, reason, detail string) {
	b.problems = append(b.problems, model.Problem{Object: object, Reason: reason, Detail: detail})
}

func (b *build) parentProblem(object string, parent model.Parent, reason, detail string) {
	b.problems = append(b.problems, model.Problem{Object: object, Reason: reason, Detail: detail, Parent: parent})
}

func (b *build) result() *Result {
	total := 0
	for _, resources := range b.byType {
		total += len(resources)
	}
	r := &Result{Resources: make([]Resource, 0, total), Audiences: make(map[string][]string, len(b.audiences)), Problems: b.problems}
	for kind, resources := range b.byType {
		if kind == clusterType || kind == serviceType { // the others are
			slices.SortFunc(resources, func(x, y Resource) int { return strings.Compare(x.Name, y.Name) })
		}
		r.Resources = append(r.Resources, resources...)
	}
	for node, set := range b.audiences {
		r.Audiences[node] = slices.Sorted(maps.Keys(set))
	}
	slices.SortFunc(r.Problems, model.Problem.Compare)
	r.All = slices.Compact(r.Problems)
	r.Problems = bounded(slices.Clone(r.All))
	return r
}

// maxAlike is how many problems of one reason are worth reading.
const maxAlike = 200

// bounded leaves out what is only more of the same: objects may be many, and each
// may have many problems.
func bounded(problems []model.Problem) []model.Problem {
	count := make(map[string]int)
	problems = slices.DeleteFunc(problems, func(p model.Problem) bool {
		count[p.Reason]++
		return count[p.Reason] > maxAlike
	})
	for _, reason := range slices.Sorted(maps.Keys(count)) {
		if more := count[reason] - maxAlike; more > 0 {
			problems = append(problems, model.Problem{
				Object: "controller", Reason: "TooManyProblems",
				Detail: fmt.Sprintf("%d more of reason %s are not shown; correct those that are first", more, reason),
			})
		}
	}
	slices.SortFunc(problems, model.Problem.Compare)
	return slices.Clip(problems)
}

func (b *build) checkLabel(object, label, value string) {
	switch value {
	case "", model.MeshEnabled, model.MeshDisabled:
		return
	}
	b.problem(object, "InvalidLabel", fmt.Sprintf("label %s is %+.80q and has no effect; use %s or %s", label, value, model.MeshEnabled, model.MeshDisabled))
}

func encode(addresses []netip.Addr) [][]byte {
	var out [][]byte
	for _, a := range addresses {
		out = append(out, a.AsSlice())
	}
	return out
}
