package node

import (
	"path/filepath"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/tables"
)

// shown are the tables as admin shows them.
type shown struct {
	*tables.Tables
	pins string
}

// Usage implements admin.Tables.
func (s shown) Usage() ([]api.Map, error) {
	usage, err := s.Tables.Usage()
	out := make([]api.Map, 0, len(usage))
	for _, u := range usage {
		out = append(out, api.Map{
			Name: u.Name, Type: u.Type, Entries: u.Entries, MaxEntries: u.MaxEntries,
			KeySize: u.KeySize, ValueSize: u.ValueSize, Bytes: u.Bytes,
			Pin: filepath.Join(s.pins, "maps", u.Name),
		})
	}
	return out, err
}

// Dump implements admin.Tables.
func (s shown) Dump(name string, limit int, names plan.Names) (api.MapDump, error) {
	entries, more, err := s.Tables.Dump(name, limit, names)
	dump := api.MapDump{Name: name, Entries: make([]api.MapEntry, 0, len(entries)), More: more}
	for _, e := range entries {
		dump.Entries = append(dump.Entries, api.MapEntry{Key: e.Key, Value: e.Value})
	}
	return dump, err
}
