package plan

import (
	"fmt"
	"maps"
	"reflect"

	"heddle.io/heddle/bpf"
)

// kernel is the tables as single elements, the way the kernel has them, with
// the decision rules of bpf/src/decide.h read from them.
type kernel struct {
	elements map[string]map[any]any
	limits   Limits
}

func newKernel(l Limits) *kernel {
	k := &kernel{elements: map[string]map[any]any{}, limits: l}
	for _, name := range []string{bpf.MapPods, bpf.MapIfaces, bpf.MapIfStats, bpf.MapServices,
		bpf.MapSplits, bpf.MapClusters, bpf.MapEndpoints, bpf.MapMembers, bpf.MapBypass} {
		k.elements[name] = map[any]any{}
	}
	return k
}

func (k *kernel) clone() *kernel {
	c := newKernel(k.limits)
	for name, m := range k.elements {
		c.elements[name] = maps.Clone(m)
	}
	return c
}

// apply carries out one operation, and complains about one that does not say
// what is there, or that the real map would refuse.
func (k *kernel) apply(op Op) error {
	m := k.elements[op.Map]
	_, there := m[op.Key]
	if there == op.Insert {
		return fmt.Errorf("%s: the element is there: %v", op, there)
	}
	if op.Delete {
		delete(m, op.Key)
		return nil
	}
	m[op.Key] = op.Value
	size := map[string]int{bpf.MapPods: k.limits.Pods, bpf.MapIfaces: k.limits.Pods, bpf.MapIfStats: k.limits.Pods,
		bpf.MapServices: k.limits.Services, bpf.MapSplits: k.limits.Splits, bpf.MapClusters: k.limits.Clusters,
		bpf.MapEndpoints: k.limits.Endpoints, bpf.MapMembers: k.limits.Members,
		bpf.MapBypass: k.limits.Pods * bpf.MaxPodAddrs}[op.Map]
	if len(m) > size {
		return fmt.Errorf("%s: %d elements, there is room for %d", op, len(m), size)
	}
	return nil
}

// read is what tables.Read does.
func (k *kernel) read() *Contents {
	c := NewContents()
	typed(c.Pods, k.elements[bpf.MapPods])
	typed(c.Bypass, k.elements[bpf.MapBypass])
	typed(c.Ifaces, k.elements[bpf.MapIfaces])
	typed(c.Services, k.elements[bpf.MapServices])
	typed(c.Splits, k.elements[bpf.MapSplits])
	typed(c.Members, k.elements[bpf.MapMembers])
	for key := range k.elements[bpf.MapIfStats] {
		c.Counters[key.(uint32)] = true
	}
	clusters := map[uint64]bpf.ClusterVal{}
	slots := map[bpf.EndpointKey]bpf.EndpointVal{}
	typed(clusters, k.elements[bpf.MapClusters])
	typed(slots, k.elements[bpf.MapEndpoints])
	c.SetClusters(clusters, maps.All(slots))
	return c
}

func typed[K comparable, V any](to map[K]V, from map[any]any) {
	for key, v := range from {
		to[key.(K)] = v.(V)
	}
}

// same compares contents; slots that are shared, empty or nil are the same.
func same(a, b *Contents) bool {
	if len(a.Strays)+len(b.Strays) > 0 || len(a.Clusters) != len(b.Clusters) {
		return false
	}
	for id, c := range a.Clusters {
		other, ok := b.Clusters[id]
		if !ok || c.Flags != other.Flags || !sameSlots(c.Endpoints, other.Endpoints) {
			return false
		}
	}
	return reflect.DeepEqual(a.Pods, b.Pods) && reflect.DeepEqual(a.Ifaces, b.Ifaces) &&
		reflect.DeepEqual(a.Counters, b.Counters) && reflect.DeepEqual(a.Services, b.Services) &&
		reflect.DeepEqual(a.Splits, b.Splits) && reflect.DeepEqual(a.Members, b.Members)
}

// client is somebody who connects: a namespace and where to.
type client struct {
	scope uint64
	key   bpf.ServiceKey // with scope 0
}

// find returns the entry that a client meets, false when there is none.
func (k *kernel) find(c client) (bpf.ServiceVal, bool) {
	val, ok := k.elements[bpf.MapServices][c.key].(bpf.ServiceVal)
	if ok && val.Flags&bpf.ServiceScoped != 0 {
		scoped := c.key
		scoped.Scope = c.scope
		if v, ok := k.elements[bpf.MapServices][scoped].(bpf.ServiceVal); ok {
			return v, true
		}
		if val.Flags&bpf.ServiceVariants != 0 {
			return bpf.ServiceVal{}, false
		}
	}
	return val, ok
}

// answer is everything that can come of an entry.
type answer struct {
	refused  bool
	clusters map[uint64]bool
}

// follow goes from an entry up to the clusters that it leads to.
func (k *kernel) follow(val bpf.ServiceVal) (answer, error) {
	a := answer{clusters: map[uint64]bool{}}
	drawn := []uint64{val.Cluster}
	if val.Split != 0 {
		split, ok := k.elements[bpf.MapSplits][val.Split].(bpf.SplitVal)
		if !ok {
			return a, fmt.Errorf("service %016x points to a split that is not there", val.Service)
		}
		drawn = nil
		for _, column := range split.Column[:split.Columns] {
			if column.Cut > 0 {
				drawn = append(drawn, column.Cluster)
			}
			if column.Cut < split.Total {
				drawn = append(drawn, split.Column[column.Alias].Cluster)
			}
		}
		a.refused = len(drawn) == 0
	}
	for _, id := range drawn {
		if id == 0 {
			a.refused = true
			continue
		}
		a.clusters[id] = true
		if _, ok := k.elements[bpf.MapClusters][id]; !ok {
			return a, fmt.Errorf("service %016x points to cluster %016x that is not there", val.Service, id)
		}
		if len(k.endpoints(id)) == 0 {
			a.refused = true
		}
	}
	return a, nil
}

// endpoints are those that can be drawn from a cluster. A slot that is not
// there comes as the zero value.
func (k *kernel) endpoints(id uint64) map[bpf.EndpointVal]bool {
	all := map[bpf.EndpointVal]bool{}
	cluster, _ := k.elements[bpf.MapClusters][id].(bpf.ClusterVal)
	for n := range cluster.Count {
		e, _ := k.elements[bpf.MapEndpoints][slot(id, int(n))].(bpf.EndpointVal)
		all[e] = true
	}
	return all
}
