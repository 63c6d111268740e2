package condition

import (
	"maps"
	"slices"
)

// Report is what the nodes of one controller have acknowledged, for the others.
// Versions are hashes of contents, so they mean the same everywhere; a report about
// another version than one's own says nothing.
type Report struct {
	Resources []Reported
	Groups    []Group
}

// Reported is a resource, in the version that the controller serves.
type Reported struct {
	Ref
	Version string
}

// Group is nodes that have the same.
type Group struct {
	Nodes []string
	Lacks []int // indexes of Resources, sorted
}

// Tell makes a report of what one controller knows.
func Tell(progress map[Ref]Progress) Report {
	var r Report
	lacks := make(map[string][]int) // by node
	refs := slices.SortedFunc(maps.Keys(progress), compareRefs)
	everybody := make(map[string]bool)
	for _, ref := range refs {
		for _, node := range progress[ref].Has {
			everybody[node] = true
		}
	}
	for i, ref := range refs {
		r.Resources = append(r.Resources, Reported{ref, progress[ref].Version})
		has := make(map[string]bool, len(progress[ref].Has))
		for _, node := range progress[ref].Has {
			has[node] = true
		}
		for node := range everybody {
			if !has[node] {
				lacks[node] = append(lacks[node], i)
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(everybody)) {
		i := slices.IndexFunc(r.Groups, func(g Group) bool { return slices.Equal(g.Lacks, lacks[node]) })
		if i < 0 {
			i = len(r.Groups)
			r.Groups = append(r.Groups, Group{Lacks: lacks[node]})
		}
		r.Groups[i].Nodes = append(r.Groups[i].Nodes, node)
	}
	return r
}

// Merge adds what another controller reports.
func Merge(progress map[Ref]Progress, r Report) {
	for i, reported := range r.Resources {
		own, known := progress[reported.Ref]
		if !known || own.Version != reported.Version {
			continue
		}
		all := slices.Clone(own.Has)
		for _, g := range r.Groups {
			if _, lacks := slices.BinarySearch(g.Lacks, i); !lacks {
				all = append(all, g.Nodes...)
			}
		}
		slices.Sort(all)
		own.Has = slices.Compact(all)
		progress[reported.Ref] = own
	}
}
