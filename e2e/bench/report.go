package main

import (
	"slices"
	"time"
)

// A Report is everything that a run found. It is the JSON beside the table, and
// what a later run compares itself with.
type Report struct {
	Date       time.Time         `json:"date"`
	Kernel     string            `json:"kernel"`
	CPU        string            `json:"cpu"`
	Cores      []int             `json:"cores"`
	Mode       string            `json:"mode"`
	Congestion string            `json:"congestionControl"`
	Command    string            `json:"command"`
	Commit     string            `json:"commit"`
	Versions   map[string]string `json:"versions,omitempty"` // of the peers

	Cell float64 `json:"cellSeconds"`
	Warm float64 `json:"warmSeconds"`

	Left     []*Absent           `json:"notAvailable,omitempty"`
	Features map[string][]string `json:"features,omitempty"` // what the agents said, by variant
	Rounds   [][]*Visit          `json:"rounds"`             // as they were measured, in order
	Rows     []*Row              `json:"rows"`               // what follows from them
}

// Absent is a variant that was not measured.
type Absent struct {
	Variant string `json:"variant"`
	Reason  string `json:"reason"`
}

// A Row is one variant's figures by metric.
type Row struct {
	Variant string           `json:"variant"` // key
	Setting setting          `json:"setting"`
	Name    string           `json:"name"`
	Values  map[string]Range `json:"values"`
	Ratios  map[string]Range `json:"ratios"` // to the base of its setting, paired by round
	// Counted is the share of the busy time of the cores that the CPU clocks
	// account for.
	Counted Range `json:"counted"`
	// Made, Established and Served are sums over the rounds.
	Made        int    `json:"connections"`
	Established uint64 `json:"establishedInMesh,omitempty"`
	Served      uint64 `json:"servedByMechanism,omitempty"`
}

// summarise makes the rows from the rounds.
func (r *Report) summarise(measured []*Variant) {
	r.Rows = nil
	for _, v := range measured {
		row := &Row{Variant: v.key(), Setting: v.Setting, Name: v.Name, Values: map[string]Range{}, Ratios: map[string]Range{}}
		base := &Variant{Name: v.Setting.base(), Setting: v.Setting}
		for _, m := range metrics {
			values := r.series(v.key(), m)
			if len(values) == 0 {
				continue
			}
			row.Values[m.name] = rangeOf(values)
			if ratios := paired(values, r.series(base.key(), m)); len(ratios) > 0 {
				row.Ratios[m.name] = rangeOf(ratios)
			}
		}
		var counted []float64
		for _, visit := range r.visits(v.key()) {
			row.Made += visit.Made
			row.Established += visit.Established
			row.Served += visit.Served
			var used, busy time.Duration
			for _, c := range visit.Cells {
				used += c.cpu()
				busy += time.Duration(c.Busy)
			}
			if busy > 0 {
				counted = append(counted, float64(used)/float64(busy))
			}
		}
		if len(counted) > 0 {
			row.Counted = rangeOf(counted)
		}
		r.Rows = append(r.Rows, row)
	}
}

// visits are those of one variant, one for each round.
func (r *Report) visits(key string) []*Visit {
	var out []*Visit
	for _, round := range r.Rounds {
		for _, v := range round {
			if v.Variant == key {
				out = append(out, v)
			}
		}
	}
	return out
}

// series are a metric's values, one for each round.
func (r *Report) series(key string, m metric) []float64 {
	var out []float64
	for _, v := range r.visits(key) {
		if c := v.cell(m.kind); c != nil {
			out = append(out, m.of(c))
		}
	}
	return out
}

func (r *Report) row(s setting, name string) *Row {
	i := slices.IndexFunc(r.Rows, func(row *Row) bool { return row.Setting == s && row.Name == name })
	if i < 0 {
		return nil
	}
	return r.Rows[i]
}
