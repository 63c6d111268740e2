package plan

import (
	"fmt"
	"strings"

	"heddle.io/heddle/bpf"
)

// Limits is how many entries each table takes. Pods is the size of hd_pods and
// of hd_ifaces.
type Limits struct {
	Pods, Services, Splits, Clusters, Endpoints, Members int
}

// room is what is still free in the tables. Entries that the plan is about to
// remove count as taken, because Diff adds before it removes; see
// Contents.Deferred.
type room Limits

func roomBeside(l Limits, current *Contents) room {
	return room{
		Pods:      l.Pods - max(len(current.Pods), len(current.Ifaces), len(current.Counters)),
		Services:  l.Services - len(current.Services),
		Splits:    l.Splits - len(current.Splits),
		Clusters:  l.Clusters - len(current.Clusters),
		Endpoints: l.Endpoints - current.Slots(),
		Members:   l.Members - len(current.Members),
	}
}

func (r *room) take(n room) {
	r.Pods -= n.Pods
	r.Services -= n.Services
	r.Splits -= n.Splits
	r.Clusters -= n.Clusters
	r.Endpoints -= n.Endpoints
	r.Members -= n.Members
}

// lacks names the tables that do not take n more entries, with the flag that
// raises them; empty when everything fits.
func (r room) lacks(n room) string {
	var full []string
	for _, t := range []struct {
		free, need int
		table      string
	}{
		{r.Pods, n.Pods, bpf.MapPods},
		{r.Services, n.Services, bpf.MapServices},
		{r.Splits, n.Splits, bpf.MapSplits},
		{r.Clusters, n.Clusters, bpf.MapClusters},
		{r.Endpoints, n.Endpoints, bpf.MapEndpoints},
		{r.Members, n.Members, bpf.MapMembers},
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
	if table == bpf.MapIfaces {
		table = bpf.MapPods
	}
	return "--max-" + strings.TrimPrefix(table, "hd_")
}
