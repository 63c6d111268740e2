package translate

import (
	"reflect"
	"slices"
	"strings"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// A roster is what follows from Nodes, Pods, Namespaces and the MeshConfig alone:
// who is there, and what belongs to the mesh. Endpoints and routes change more
// often, and leave it as it is.
type roster struct {
	from      model.Snapshot // those four of it
	pods      map[*model.Pod]listed
	nodes     []Resource
	workloads []Resource
	audiences map[string]map[string]bool // node -> audiences
	problems  []model.Problem
}

// listed is what follows from a pod; a pod that changes is another one.
type listed struct {
	resource  Resource
	namespace string // audience
	message   *xds.Workload
}

// same reports whether the roster is that of a snapshot.
func (r *roster) same(s *model.Snapshot) bool {
	return r != nil && sameMap(r.from.Nodes, s.Nodes) && sameMap(r.from.Pods, s.Pods) &&
		sameMap(r.from.Namespaces, s.Namespaces) && r.from.Mesh == s.Mesh
}

// sameMap reports whether two maps are one and the same, as in snapshots that
// share what did not change.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// enlist makes the roster, or takes over the one before.
func (b *build) enlist() {
	r := b.before.roster
	if !r.same(b.Snapshot) {
		r = b.newRoster(r)
	}
	b.after.roster = r
	b.audiences = r.audiences
	b.problems = append(b.problems, r.problems...)
	b.byType[nodeType] = r.nodes
	b.byType[workloadType] = r.workloads
}

func (b *build) newRoster(before *roster) *roster {
	if before == nil {
		before = &roster{}
	}
	b.audiences = make(map[string]map[string]bool, len(before.audiences))
	r := &roster{from: *b.Snapshot, pods: make(map[*model.Pod]listed, len(before.pods)), audiences: b.audiences}
	b.nodes()
	b.workloads(before, r)
	r.nodes, r.workloads = b.byType[nodeType], b.byType[workloadType]
	for _, resources := range [][]Resource{r.nodes, r.workloads} {
		slices.SortFunc(resources, func(x, y Resource) int { return strings.Compare(x.Name, y.Name) })
	}
	r.problems, b.problems = b.problems, nil
	return r
}

// nodes makes a resource for every node that is known, by its own object or
// because a pod is on it.
func (b *build) nodes() {
	start := podStart(b.Mesh, b.before.Exempt)
	add := func(name, zone string) {
		if name == "" || b.audiences[name] != nil {
			return
		}
		audience := NodeAudience(name)
		b.audiences[name] = map[string]bool{audience: true}
		b.emit(nodeType, name, &xds.Node{Name: name, Zone: zone, PodStart: start}, audience)
	}
	for _, n := range b.Nodes {
		add(n.Name, n.Zone)
	}
	for _, p := range b.Pods {
		add(p.Node, "")
	}
}

// podStart is the same for every node; nil if there is nothing to say, which means
// to wait. exempt is a namespace, or empty.
func podStart(m *model.MeshConfig, exempt string) *xds.PodStart {
	if m == nil && exempt == "" {
		return nil
	}
	out := &xds.PodStart{}
	if m != nil {
		out.ExemptNamespaces = slices.Clone(m.PodStart.ExemptNamespaces)
		if m.PodStart.Drop {
			out.WhenAgentDown = xds.PodStart_DROP
		}
	}
	if exempt != "" {
		out.ExemptNamespaces = append(out.ExemptNamespaces, exempt)
	}
	out.ExemptNamespaces = slices.Compact(slices.Sorted(slices.Values(out.ExemptNamespaces)))
	return out
}

// workloads tells each node its pods, and finds out which nodes have pods in the
// mesh. A pod without addresses is told too: its node has to know whether to
// capture it before the network is set up.
func (b *build) workloads(before, r *roster) {
	for _, n := range b.Namespaces {
		b.checkLabel("Namespace "+n.Name, model.MeshLabel, n.Mesh)
	}
	for _, p := range b.Pods {
		for _, label := range [...]string{model.MeshLabel, model.BypassLabel} {
			if value := p.Labels[label]; value != "" {
				b.checkLabel("Pod "+p.String(), label, value)
			}
		}
		if p.Node == "" || p.Finished {
			continue
		}
		mesh := b.InMesh(p)
		entry, known := before.pods[p]
		if !known || entry.message.Mesh != mesh {
			entry = list(p, mesh)
		}
		r.pods[p] = entry
		if mesh {
			b.audiences[p.Node][Mesh] = true
			b.audiences[p.Node][entry.namespace] = true
		}
		b.byType[workloadType] = append(b.byType[workloadType], entry.resource)
	}
}

func list(p *model.Pod, mesh bool) listed {
	m := &xds.Workload{
		Namespace:      p.Namespace,
		Name:           p.Name,
		Uid:            p.UID,
		Node:           p.Node,
		ServiceAccount: p.ServiceAccount,
		Addresses:      encode(p.Addresses),
		Mesh:           mesh,
		HostNetwork:    p.HostNetwork,
		SocketBypass:   p.Labels[model.BypassLabel] == model.MeshEnabled,
	}
	return listed{
		resource:  Resource{Type: xds.WorkloadType, Name: p.String(), Message: m, Audiences: []string{NodeAudience(p.Node)}},
		namespace: NamespaceAudience(p.Namespace),
		message:   m,
	}
}
