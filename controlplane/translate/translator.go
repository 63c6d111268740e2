package translate

import (
	"maps"
	"slices"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// Translator translates one snapshot after the other. Each result is what Build
// gives; messages that follow from the same objects as before are the ones from
// before, which also tells who compares them that they are the same. The zero
// value is ready; it belongs to one goroutine.
type Translator struct {
	// Exempt is a namespace whose pods start without an agent, beside those of the
	// MeshConfig: Heddle's own. Empty: there is none.
	Exempt string

	nodes    map[string]*model.Node
	services map[model.Key]plainService
	clusters map[string]sliced
	roster   *roster
}

// plainService is a Service without routes, and what follows from it.
type plainService struct {
	from    *model.Service
	message *xds.Service
}

// sliced is a Cluster whose endpoints are those of slices.
type sliced struct {
	service *model.Service
	slices  []*model.Slice
	policy  *model.TrafficPolicy
	message *xds.Cluster
}

// Build translates a snapshot.
func (t *Translator) Build(s *model.Snapshot) *Result {
	if !sameMap(t.nodes, s.Nodes) && !maps.Equal(t.nodes, s.Nodes) { // endpoints take their zones from them
		*t = Translator{Exempt: t.Exempt}
	}
	b := &build{
		Index:    s.Index(),
		clusters: make(map[string]*cluster, len(t.clusters)),
		before:   t,
		after: &Translator{
			Exempt:   t.Exempt,
			nodes:    s.Nodes,
			services: make(map[model.Key]plainService, len(t.services)),
			clusters: make(map[string]sliced, len(t.clusters)),
		},
	}
	b.enlist()
	b.takePolicies()
	b.services()
	b.externals()
	b.unprogrammed()
	b.emitClusters()
	*t = *b.after
	return b.result()
}

// known returns the message of a cluster that follows from the same objects as
// before; nil when there is none.
func (b *build) known(name string, c *cluster) *xds.Cluster {
	last, parts := b.before.clusters[name], b.SlicesOf(c.service.Key)
	same := last.service == c.service && last.policy == c.policy && len(parts) == len(last.slices) &&
		!slices.ContainsFunc(parts, func(p *model.Slice) bool { return !slices.Contains(last.slices, p) })
	if !same {
		return nil
	}
	b.after.clusters[name] = last
	return last.message
}

// remember keeps the message of a cluster for the next snapshot.
func (b *build) remember(name string, c *cluster, m *xds.Cluster) {
	if parts := b.SlicesOf(c.service.Key); len(parts) > 0 {
		b.after.clusters[name] = sliced{c.service, parts, c.policy, m}
	}
}
