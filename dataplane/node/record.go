package node

import (
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
	before, after := ports(l.index), ports(index)
	var fresh []admin.PortKey
	for key, p := range after {
		if old, ok := before[key]; !ok || !sameShares(old, p) {
			fresh = append(fresh, key)
		}
	}
	for key := range before {
		if _, stays := after[key]; !stays {
			delete(l.records, key)
		}
	}
	if len(fresh) == 0 {
		return
	}
	counts, err := admin.Count(l.n.tables)
	if err != nil {
		l.n.c.Log.Warn("counters cannot be read; observed shares start at zero", "error", err)
	}
	programmed := time.Now()
	for _, key := range fresh {
		l.records[key] = admin.Record{Programmed: programmed, Opened: base(counts, after[key])}
	}
}

// base picks a port's counters.
func base(counts map[admin.Choice]uint64, p *plan.ServicePort) map[admin.Choice]uint64 {
	out := make(map[admin.Choice]uint64)
	for _, b := range p.Backends {
		for family, service := range p.IDs {
			choice := admin.Choice{Service: service, Cluster: b.IDs[family]}
			if n := counts[choice]; n > 0 {
				out[choice] = n
			}
		}
	}
	return out
}

func ports(x *plan.Index) map[admin.PortKey]*plan.ServicePort {
	if x == nil {
		return nil
	}
	out := make(map[admin.PortKey]*plan.ServicePort, len(x.Ports))
	for _, p := range x.Ports {
		out[admin.PortKey{Resource: p.Resource, Port: p.Port, Protocol: p.Protocol}] = p
	}
	return out
}

// sameShares compares what decides where connections go, apart from endpoints.
func sameShares(a, b *plan.ServicePort) bool {
	return a.Route == b.Route && slices.EqualFunc(a.Backends, b.Backends, func(x, y plan.Backend) bool {
		return x.Cluster == y.Cluster && x.Weight == y.Weight && x.IDs == y.IDs
	})
}
