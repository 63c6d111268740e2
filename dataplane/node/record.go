package node

import (
	"maps"
	"slices"
	"time"

	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/plan"
)

// record notes which service ports have new shares, when, and what the
// counters were: observed shares are counted from there. It runs after the
// tables were written, so it delays no change; the connections in between are
// counted for the shares before.
func (l *loop) record(index *plan.Index) {
	fresh, gone := reshared(l.index, index)
	if len(fresh)+len(gone) == 0 {
		return
	}
	records := maps.Clone(l.records)
	for _, p := range gone {
		delete(records, key(p))
	}
	l.records = records
	if len(fresh) == 0 {
		return
	}
	counts, err := admin.Count(l.n.tables)
	if err != nil {
		l.n.c.Log.Warn("counters cannot be read; observed shares start at zero", "error", err)
	}
	programmed := time.Now()
	for _, p := range fresh {
		records[key(p)] = admin.Record{Programmed: programmed, Opened: base(counts, p)}
	}
}

// base picks a port's counters.
func base(counts map[admin.Choice]uint64, p *plan.ServicePort) map[admin.Choice]uint64 {
	var out map[admin.Choice]uint64 // most have none
	for _, b := range p.Backends {
		for family, service := range p.IDs {
			choice := admin.Choice{Service: service, Cluster: b.IDs[family]}
			if n := counts[choice]; n > 0 {
				if out == nil {
					out = make(map[admin.Choice]uint64)
				}
				out[choice] = n
			}
		}
	}
	return out
}

// reshared walks over the ports before and after, which are in the same order,
// and returns those of after whose shares are new, and those of before that are
// gone.
func reshared(before, after *plan.Index) (fresh, gone []*plan.ServicePort) {
	var old []*plan.ServicePort
	if before != nil {
		old = before.Ports
	}
	for _, p := range after.Ports {
		for len(old) > 0 && old[0].Compare(p) < 0 {
			gone, old = append(gone, old[0]), old[1:]
		}
		if len(old) == 0 || old[0].Compare(p) > 0 {
			fresh = append(fresh, p)
			continue
		}
		if old[0] != p && !sameShares(old[0], p) {
			fresh = append(fresh, p)
		}
		old = old[1:]
	}
	return fresh, append(gone, old...)
}

func key(p *plan.ServicePort) admin.PortKey {
	return admin.PortKey{Resource: p.Resource, Port: p.Port, Protocol: p.Protocol}
}

// sameShares compares what decides where connections go, apart from endpoints.
func sameShares(a, b *plan.ServicePort) bool {
	return a.Route == b.Route && slices.EqualFunc(a.Backends, b.Backends, func(x, y plan.Backend) bool {
		return x.Cluster == y.Cluster && x.Weight == y.Weight && x.IDs == y.IDs
	})
}
