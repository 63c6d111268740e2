package plan

import (
	"maps"
	"reflect"
	"slices"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// Planner builds plans of one node, one after the other. Each is what Build
// gives, but when little changed since the last one, only the services that the
// change concerns are planned again. The zero value is ready; it belongs to one
// goroutine.
//
// That is possible while services are independent of each other: as long as
// nobody contends for an address, an id or room in a table. A plan with a
// problem, or after one, is therefore made by Build.
type Planner struct {
	id hasher // nil: the usual one

	// The last plan, and what it was made from. contents is nil before the first.
	snapshot *state.Snapshot
	pods     []Pod
	limits   Limits
	contents *Contents
	index    *Index
	problems []Problem
}

// Build is like the function Build.
func (p *Planner) Build(s *state.Snapshot, pods []Pod, l Limits, current *Contents) (*Contents, *Index, []Problem) {
	if p.id == nil {
		p.id = id
	}
	next := Planner{id: p.id, snapshot: s, pods: pods, limits: l}
	var ok bool
	if next.contents, next.index, ok = p.update(s, pods, l, current); !ok {
		next.contents, next.index, next.problems = build(s, pods, l, current, p.id)
	}
	*p = next
	return p.contents, p.index, p.problems
}

// samePlace compares what of a node decides about endpoints.
func samePlace(a, b state.Node) bool { return a.Name == b.Name && a.Zone == b.Zone }

// maxTouched is how many services are worth planning one by one.
const maxTouched = 1000

// update makes the next plan from the last one; false when Build has to.
func (p *Planner) update(s *state.Snapshot, pods []Pod, l Limits, current *Contents) (*Contents, *Index, bool) {
	if p.contents == nil || current != p.contents || current.Deferred || len(current.Strays) > 0 ||
		len(p.problems) > 0 || l != p.limits || !samePlace(s.Node, p.snapshot.Node) || !slices.EqualFunc(pods, p.pods, samePod) {
		return nil, nil, false
	}
	touched, ok := p.touched(s)
	if !ok {
		return nil, nil, false
	}
	rest, old := p.part(touched)
	fresh, ok := p.replan(s, touched)
	if !ok || p.contends(fresh, old) {
		return nil, nil, false
	}
	contents := old.replace(current, fresh.out)
	return contents, p.reindex(s, contents, rest, old, fresh), true
}

func samePod(a, b Pod) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.Netns == b.Netns && a.Ifindex == b.Ifindex &&
		a.Fast == b.Fast && a.Tracked == b.Tracked && a.Bypass == b.Bypass && slices.Equal(a.Addresses, b.Addresses)
}

// touched returns the services that differ, or of which a cluster does; false
// when there are too many, or one that is not independent of others.
func (p *Planner) touched(s *state.Snapshot) (map[string]bool, bool) {
	touched := make(map[string]bool)
	if !differing(p.snapshot.Services, s.Services, sameService, touched) {
		return nil, false
	}
	clusters := make(map[string]bool)
	if !differing(p.snapshot.Clusters, s.Clusters, sameCluster, clusters) {
		return nil, false
	}
	for _, port := range p.index.Ports {
		for i := range port.Backends {
			if len(clusters) > 0 && clusters[port.Backends[i].Cluster] {
				touched[port.Resource] = true
			}
		}
	}
	if len(touched) > maxTouched {
		return nil, false
	}
	for name := range touched {
		// A variant needs its base, and marks it.
		if p.snapshot.Services[name].Scope != "" || s.Services[name].Scope != "" {
			return nil, false
		}
	}
	return touched, true
}

// differing adds to names those under which a and b differ; false when they are
// too many.
func differing[V any](a, b map[string]V, same func(x, y V) bool, names map[string]bool) bool {
	if sameMap(a, b) {
		return true
	}
	found := 0
	for name, x := range a {
		if y, stays := b[name]; stays {
			if same(x, y) {
				continue
			}
			found++
		}
		if names[name] = true; len(names) > maxTouched {
			return false
		}
	}
	if len(a) == len(b) && len(names) == found { // none came, as none went
		return true
	}
	for name := range b {
		if _, known := a[name]; !known {
			if names[name] = true; len(names) > maxTouched {
				return false
			}
		}
	}
	return true
}

// sameService compares by identity: the parts of a snapshot that did not change
// are shared with the one before.
func sameService(a, b state.Service) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.Scope == b.Scope && a.AffinitySeconds == b.AffinitySeconds &&
		sameSlice(a.Addresses, b.Addresses) && sameSlice(a.Ports, b.Ports)
}

func sameCluster(a, b state.Cluster) bool {
	return a.Name == b.Name && a.Locality == b.Locality && a.Policy == b.Policy && sameSlice(a.Endpoints, b.Endpoints)
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sameMap reports whether two maps are one and the same.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// portion is what some services have in the tables.
type portion struct {
	ports    []*ServicePort
	services []bpf.ServiceKey
	splits   []uint64
	clusters []uint64 // those that no other service uses
	members  []bpf.MemberKey
}

// part takes the last plan apart: the ports of the services that are not
// touched, and the portion of those that are.
func (p *Planner) part(touched map[string]bool) (rest []*ServicePort, old portion) {
	rest = make([]*ServicePort, 0, len(p.index.Ports)+len(touched))
	alone := make(map[uint64]bool) // clusters of touched services
	for _, port := range p.index.Ports {
		if !touched[port.Resource] {
			rest = append(rest, port)
			continue
		}
		old.ports = append(old.ports, port)
		p.take(port, &old, alone)
	}
	for _, port := range rest {
		for i := range port.Backends {
			for _, id := range port.Backends[i].IDs {
				delete(alone, id)
			}
		}
	}
	old.clusters = slices.Collect(maps.Keys(alone))
	return rest, old
}

// take notes what one port has in the tables.
func (p *Planner) take(port *ServicePort, old *portion, clusters map[uint64]bool) {
	for _, a := range port.Addresses {
		old.services = append(old.services, bpf.ServiceKey{
			Addr: bpf.AddrFrom(a), PortBe: bpf.PortBE(port.Port), Proto: uint8(port.Protocol),
		})
	}
	for family, service := range port.IDs {
		if service == 0 {
			continue
		}
		if _, ok := p.contents.Splits[service]; ok {
			old.splits = append(old.splits, service)
		}
		for i := range port.Backends {
			id := port.Backends[i].IDs[family]
			c, ok := p.contents.Clusters[id]
			if !ok {
				continue
			}
			clusters[id] = true
			if len(p.contents.Members) == 0 {
				continue
			}
			for _, e := range c.Endpoints {
				key := bpf.MemberKey{Service: service, Addr: e.Addr, PortBe: e.PortBe}
				if _, ok := p.contents.Members[key]; ok && !slices.Contains(old.members, key) {
					old.members = append(old.members, key)
				}
			}
		}
	}
}

// replan plans the touched services alone; false when there is a problem with
// one of them.
func (p *Planner) replan(s *state.Snapshot, touched map[string]bool) (*builder, bool) {
	only := &state.Snapshot{Node: s.Node, Clusters: s.Clusters, Services: make(map[string]state.Service, len(touched))}
	for name := range touched {
		if svc, ok := s.Services[name]; ok {
			only.Services[name] = svc
		}
	}
	b := newBuilder(only, p.limits, p.contents, p.id, len(touched))
	b.admit(b.offers())
	b.index.finish()
	return b, len(b.problems) == 0 && !b.full
}

// contends says whether the touched services want what others have, or are
// variants' bases.
func (p *Planner) contends(fresh *builder, old portion) bool {
	for _, key := range old.services {
		if p.contents.Services[key].Flags&bpf.ServiceScoped != 0 {
			return true
		}
	}
	for key := range fresh.out.Services {
		if _, taken := p.contents.Services[key]; taken && !slices.Contains(old.services, key) {
			return true
		}
	}
	for service := range fresh.index.services {
		if other := p.index.services[service]; other != nil && !slices.Contains(old.ports, other) {
			return true
		}
	}
	for id, ref := range fresh.index.clusters {
		if other, known := p.index.clusters[id]; known && other != ref {
			return true
		}
	}
	return false
}

// replace returns contents in which what fresh has stands in place of the
// portion. Tables that do not change are shared.
func (old portion) replace(current, fresh *Contents) *Contents {
	next := *current
	equal := func(a, b Cluster) bool {
		return a.Flags == b.Flags && a.Policy == b.Policy && sameSlots(a.Endpoints, b.Endpoints)
	}
	next.Services = replaced(current.Services, old.services, fresh.Services, alike[bpf.ServiceVal])
	next.Splits = replaced(current.Splits, old.splits, fresh.Splits, alike[bpf.SplitVal])
	next.Clusters = replaced(current.Clusters, old.clusters, fresh.Clusters, equal)
	next.Members = replaced(current.Members, old.members, fresh.Members, alike[bpf.MemberVal])
	return &next
}

func alike[V comparable](a, b V) bool { return a == b }

// replaced is m without the keys gone and with all of now; m itself when that
// changes nothing.
func replaced[K comparable, V any](m map[K]V, gone []K, now map[K]V, equal func(a, b V) bool) map[K]V {
	differs := slices.ContainsFunc(gone, func(key K) bool { _, stays := now[key]; return !stays })
	for key, val := range now {
		was, ok := m[key]
		differs = differs || !ok || !equal(was, val)
	}
	if !differs {
		return m
	}
	next := maps.Clone(m)
	for _, key := range gone {
		delete(next, key)
	}
	maps.Copy(next, now)
	return next
}

// reindex puts the ports of the touched services in their places among the
// others.
func (p *Planner) reindex(s *state.Snapshot, contents *Contents, rest []*ServicePort, old portion, fresh *builder) *Index {
	x := &Index{
		Ports: rest, snapshot: s, contents: contents,
		services: p.index.services, clusters: p.index.clusters, scopes: p.index.scopes,
	}
	for _, port := range fresh.index.Ports {
		at, _ := slices.BinarySearchFunc(x.Ports, port, (*ServicePort).Compare)
		x.Ports = slices.Insert(x.Ports, at, port)
	}
	var gone []uint64
	for _, port := range old.ports {
		for _, id := range port.IDs {
			if id != 0 {
				gone = append(gone, id)
			}
		}
	}
	x.services = replaced(x.services, gone, fresh.index.services, alike[*ServicePort])
	x.clusters = replaced(x.clusters, old.clusters, fresh.index.clusters, alike[clusterRef])
	return x
}
