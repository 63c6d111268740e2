package feed

import (
	"maps"
	"time"

	"heddle.io/heddle/dataplane/state"
)

// holdFor bounds how long a service waits for clusters that it names and that
// have not arrived.
const holdFor = time.Second

// holds keeps a snapshot consistent across types. A change that moves a
// service to a new cluster arrives as two responses; between them the service
// would name a cluster that is not there, and its connections would be refused
// although the control plane never asked for that. So a service whose clusters
// are not all known keeps its last published version, clusters included, for
// up to holdFor. After that the control plane is taken at its word.
type holds struct {
	since map[string]time.Time // by service name
}

// settle returns the services and clusters that may be published after prev
// (nil: nothing was), and when to look again; zero when nothing is held. It
// copies the maps when it has to change them.
func (h *holds) settle(now time.Time, prev *state.Snapshot, services map[string]state.Service, clusters map[string]state.Cluster,
) (map[string]state.Service, map[string]state.Cluster, time.Time) {
	since := make(map[string]time.Time)
	var held []string
	var again time.Time
	for name, s := range services {
		if complete(s, clusters) {
			continue
		}
		first, waiting := h.since[name]
		if !waiting {
			first = now
		}
		since[name] = first
		deadline := first.Add(holdFor)
		if !now.Before(deadline) {
			continue
		}
		held = append(held, name)
		if again.IsZero() || deadline.Before(again) {
			again = deadline
		}
	}
	h.since = since
	if len(held) > 0 {
		services, clusters = maps.Clone(services), maps.Clone(clusters)
	}
	for _, name := range held {
		keep(name, prev, services, clusters)
	}
	return services, clusters, again
}

// keep puts the previously published version of a service in place of the
// incomplete one, together with the clusters it needs.
func keep(name string, prev *state.Snapshot, services map[string]state.Service, clusters map[string]state.Cluster) {
	if prev == nil {
		delete(services, name)
		return
	}
	old, ok := prev.Services[name]
	if !ok {
		delete(services, name)
		return
	}
	services[name] = old
	for _, p := range old.Ports {
		for _, w := range p.Clusters {
			if _, known := clusters[w.Cluster]; known || w.Cluster == "" {
				continue
			}
			if c, ok := prev.Clusters[w.Cluster]; ok {
				clusters[w.Cluster] = c
			}
		}
	}
}

func complete(s state.Service, clusters map[string]state.Cluster) bool {
	for _, p := range s.Ports {
		for _, w := range p.Clusters {
			if _, ok := clusters[w.Cluster]; !ok && w.Cluster != "" {
				return false
			}
		}
	}
	return true
}
