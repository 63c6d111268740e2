package plan

import (
	"fmt"
	"strings"

	"heddle.io/heddle/bpf"
)

// Limits is how many entries each table takes. Pods is the size of hd_pods and
// of hd_ifaces; hd_bypass takes bpf.MaxPodAddrs entries for each pod.
type Limits struct {
	Pods, Services, Splits, Clusters, Endpoints, Members int
}

// room is what is still free in the tables, or what something takes of it.
// Entries that the plan is about to remove count as taken, because Diff adds
// before it removes; see Contents.Deferred.
type room struct {
	pods, ifaces, services, splits, clusters, endpoints, members int
}

func roomBeside(l Limits, current *Contents) room {
	return room{
		pods:      l.Pods - len(current.Pods),
		ifaces:    l.Pods - max(len(current.Ifaces), len(current.Counters)),
		services:  l.Services - len(current.Services),
		splits:    l.Splits - len(current.Splits),
		clusters:  l.Clusters - len(current.Clusters),
		endpoints: l.Endpoints - current.Slots(),
		members:   l.Members - len(current.Members),
	}
}

func (r *room) take(n room) {
	r.pods -= n.pods
	r.ifaces -= n.ifaces
	r.services -= n.services
	r.splits -= n.splits
	r.clusters -= n.clusters
	r.endpoints -= n.endpoints
	r.members -= n.members
}

// lacks names the tables that do not take n more entries, with the flag that
// raises them; empty when everything fits.
func (r room) lacks(n room) string {
	var full []string
	for _, t := range []struct {
		free, need int
		table      string
	}{
		{r.pods, n.pods, bpf.MapPods},
		{r.ifaces, n.ifaces, bpf.MapIfaces},
		{r.services, n.services, bpf.MapServices},
		{r.splits, n.splits, bpf.MapSplits},
		{r.clusters, n.clusters, bpf.MapClusters},
		{r.endpoints, n.endpoints, bpf.MapEndpoints},
		{r.members, n.members, bpf.MapMembers},
	} {
		if t.need > 0 && t.need > t.free {
			full = append(full, fmt.Sprintf("%s has room for %d of %d entries (raise %s)",
				t.table, max(t.free, 0), t.need, Flag(t.table)))
		}
	}
	return strings.Join(full, ", ")
}

// Flag is the flag of the agent that sets the size of a table.
func Flag(table string) string {
	if table == bpf.MapIfaces || table == bpf.MapBypass {
		table = bpf.MapPods
	}
	return "--max-" + strings.TrimPrefix(table, "hd_")
}
