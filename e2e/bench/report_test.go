package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/e2e/bench/load"
	"heddle.io/heddle/e2e/golden"
)

// invented is a report of three rounds in which the mesh costs a share of direct.
func invented(share float64) *Report {
	r := &Report{
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kernel: "6.6.6", CPU: "a CPU", Cores: []int{0},
		Mode: "one core", Command: "bench", Commit: "abc", Cell: 1, Warm: 0.1,
		Versions: map[string]string{"haproxy": "haproxy 1"},
		Features: map[string][]string{"a mesh": {"tcx on", "fast_path off (because)"}},
		Left:     []*Absent{{"a variant", "no such flag"}},
	}
	measured := []*Variant{
		{Name: direct, Setting: conntrack}, {Name: meshDefault, Setting: conntrack, Mesh: true},
		{Name: directPodIP, Setting: bare}, {Name: meshDefault, Setting: bare, Mesh: true},
	}
	for n := range 3 {
		slow := float64(1 + n) // the machine, more in each round
		var round []*Visit
		for _, v := range measured {
			visit := &Visit{Variant: v.key(), Made: 10}
			cost := 10e9 * slow
			if v.Mesh {
				cost *= share
				visit.Established, visit.Served = 10, 10
			}
			for _, k := range kinds {
				visit.Cells = append(visit.Cells, &Cell{
					Kind: k.name, CPU: map[string]int64{byClient: int64(cost / 2), byServer: int64(cost / 2)},
					Busy: int64(cost * 1.25),
					Load: load.Result{Count: 1e6, Bytes: 1e10, Seconds: 10 * slow, P50: slow, P99: 2 * slow},
				})
			}
			round = append(round, visit)
		}
		r.Rounds = append(r.Rounds, round)
	}
	r.summarise(measured)
	return r
}

func TestSummarise(t *testing.T) {
	row := invented(0.8).row(conntrack, meshDefault)
	if got := row.Values[cpuRequest1]; got != (Range{16, 8, 24}) {
		t.Errorf("CPU per request is %v µs", got)
	}
	if got := row.Values[cpuGB]; got != (Range{1.6, 0.8, 2.4}) {
		t.Errorf("CPU per GB is %v s", got)
	}
	if got := row.Ratios[cpuRequest1]; got != (Range{0.8, 0.8, 0.8}) {
		t.Errorf("the ratio is %v: rounds of different speed are not paired", got)
	}
	if row.Made != 30 || row.Established != 30 || row.Served != 30 || row.Counted.Median != 0.8 {
		t.Errorf("sums: %+v", row)
	}
}

func TestRender(t *testing.T) {
	r := invented(0.8)
	var b strings.Builder
	r.render(&b)
	golden.Check(t, "report.md", b.String())
}

func TestCompare(t *testing.T) {
	var b strings.Builder
	old := invented(0.8)
	if n := compare(&b, old, invented(0.8)); n != 0 {
		t.Errorf("%d medians of the same run are outside:\n%s", n, &b)
	}
	// Dearer by a tenth: the values are inside the wide ranges, the ratios are not.
	now := invented(0.88)
	b.Reset()
	costs := 0
	for _, m := range metrics {
		if m.cost {
			costs++
		}
	}
	if n := compare(&b, old, now); n != 2*costs {
		t.Errorf("%d medians are outside, want the ratios of two rows:\n%s", n, &b)
	}
	now.Rows = now.Rows[1:]
	b.Reset()
	if n := compare(&b, old, now); n != 2*costs+1 {
		t.Errorf("%d medians are outside with a row missing:\n%s", n, &b)
	}
	golden.Check(t, "compare.md", b.String())
}

func TestComparable(t *testing.T) {
	old, now := invented(0.8), invented(0.8)
	now.Date, now.Commit = now.Date.Add(time.Hour), "def"
	if err := comparable(old, now); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Report){
		func(r *Report) { r.CPU = "another" }, func(r *Report) { r.Kernel = "5" },
		func(r *Report) { r.Mode = "split" }, func(r *Report) { r.Cell = 2 },
	} {
		other := invented(0.8)
		change(other)
		if comparable(old, other) == nil {
			t.Errorf("compared with %+v", other)
		}
	}
}

// TestReadReport: what save writes is what a later run reads.
func TestReadReport(t *testing.T) {
	dir := t.TempDir()
	r := invented(0.8)
	if err := r.save(dir, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "2026-01-02-6.6.6.json")
	back, err := readReport(name)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(back)
	if string(a) != string(b) {
		t.Errorf("wrote %s\nread %s", a, b)
	}
	if _, err := os.Stat(filepath.Join(dir, "2026-01-02-6.6.6.md")); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "# Bench", "{}"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readReport(name); err == nil {
			t.Errorf("%q is taken for a report", text)
		}
	}
}

func TestGoals(t *testing.T) {
	for share, want := range map[float64]int{0.8: 7, 0.85: 7, 0.9: 4, 1.1: 0} {
		met := 0
		r := invented(share)
		for _, g := range goals {
			if ok, _ := g.verdict(r); ok {
				met++
			}
		}
		if met != want {
			t.Errorf("at %.2f× of direct %d goals are met, want %d (the bypass is not measured)", share, met, want)
		}
	}
}
