package main

import (
	"fmt"
	"io"
)

// A goal is what the project promises of a variant: a ratio to the base of its
// setting that the median must not exceed.
type goal struct {
	setting setting
	variant string
	metric  string
	limit   float64
}

var goals = []goal{
	{conntrack, meshDefault, cpuRequest1, 0.85},
	{conntrack, meshDefault, cpuRequest16, 0.85},
	{conntrack, meshDefault, cpuGB, 0.85},
	{conntrack, meshDefault, cpuConnect, 1.05},
	{conntrack, meshBypass, cpuRequest16, 0.40},
	{bare, meshDefault, cpuRequest1, 1.00},
	{bare, meshDefault, cpuRequest16, 1.00},
	{bare, meshDefault, cpuGB, 1.00},
}

// verdict says whether a run met a goal; measured is the ratio, as text. A goal
// whose variant was not measured is not met.
func (g goal) verdict(r *Report) (met bool, measured string) {
	row := r.row(g.setting, g.variant)
	if row == nil {
		return false, "not measured"
	}
	ratio, ok := row.Ratios[g.metric]
	if !ok {
		return false, "not measured"
	}
	return round(ratio.Median, 2) <= g.limit, cellText(row.Ratios, g.metric, 2, "×")
}

// renderGoals says which goals the run met.
func (r *Report) renderGoals(w io.Writer) {
	fmt.Fprintf(w, "\n## Goals\n\n| node | variant | what | at most | measured | |\n|---|---|---|---|---|---|\n")
	missed := 0
	for _, g := range goals {
		met, measured := g.verdict(r)
		text := "met"
		if !met {
			text = "**not met**"
			missed++
		}
		fmt.Fprintf(w, "| %s | %s | %s | %.2f× %s | %s | %s |\n", g.setting, g.variant, g.metric, g.limit, g.setting.base(), measured, text)
	}
	fmt.Fprintf(w, "\n%d of %d goals met.\n", len(goals)-missed, len(goals))
}
