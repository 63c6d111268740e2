package tables

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// Entry is an element of a map as text.
type Entry struct{ Key, Value string }

// Dump returns up to limit elements of a map as text, sorted, with ids as
// names where names knows them (nil: in hexadecimal). more says that there are
// others.
func (t *Tables) Dump(name string, limit int, names plan.Names) (entries []Entry, more bool, err error) {
	m, err := t.table(name)
	if err != nil {
		return nil, false, err
	}
	switch {
	case m.Type() == ebpf.SkStorage:
		return nil, false, fmt.Errorf("map %s is stored with the sockets and cannot be listed", name)
	case name == bpf.MapReasons:
		entries, err = t.dumpReasons()
		if len(entries) > limit {
			entries, more = entries[:limit], true
		}
		return entries, more, err
	}
	err = t.visit(name, m, func(key, value any) bool {
		if len(entries) == limit {
			more = true
			return false
		}
		entries = append(entries, Entry{
			Key: plan.KeyText(name, key, names), Value: plan.ValueText(name, value, names),
		})
		return true
	})
	if err != nil {
		return nil, false, fmt.Errorf("map %s: %w", name, err)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, more, nil
}

func (t *Tables) dumpReasons() ([]Entry, error) {
	counts, err := t.Reasons()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, r := range bpf.Reasons() {
		if counts[r] > 0 {
			entries = append(entries, Entry{r.String(), fmt.Sprint(counts[r])})
		}
	}
	return entries, nil
}
