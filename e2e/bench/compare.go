package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// readReport reads the report of an earlier run.
func readReport(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the earlier report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read the earlier report %s: %w (name the .json, not the .md)", name, err)
	}
	if len(r.Rows) == 0 {
		return nil, fmt.Errorf("the earlier report %s has no rows: is it one of this program?", name)
	}
	return &r, nil
}

// comparable refuses to compare what differs in more than the day.
func comparable(old, now *Report) error {
	for _, x := range []struct{ what, a, b string }{
		{"CPU", old.CPU, now.CPU},
		{"kernel", old.Kernel, now.Kernel},
		{"mode", old.Mode, now.Mode},
		{"congestion control", old.Congestion, now.Congestion},
		{"time for each figure", fmt.Sprint(old.Cell), fmt.Sprint(now.Cell)},
	} {
		if x.a != x.b {
			return fmt.Errorf("the earlier report is of another %s (%s, now %s): ranges say nothing across that", x.what, x.a, x.b)
		}
	}
	return nil
}

// compare shows for each figure that the earlier report printed whether the new
// median lies inside its range, and returns how many do not. A row that is
// missing now counts as one.
func compare(w io.Writer, old, now *Report) (outside int) {
	fmt.Fprintf(w, "\n## Compared with the run of %s (commit %s)\n\n", old.Date.Format("2006-01-02 15:04 MST"), old.Commit)
	fmt.Fprintf(w, "| variant | figure | now | then | |\n|---|---|---|---|---|\n")
	cells := 0
	for _, was := range old.Rows {
		is := now.row(was.Setting, was.Name)
		if is == nil {
			cells++
			outside++
			fmt.Fprintf(w, "| %s | all | not measured | | **outside** |\n", was.Variant)
			continue
		}
		for _, m := range metrics {
			for _, part := range []struct {
				name     string
				was, is  map[string]Range
				digits   int
				sign     string
				compared bool
			}{
				{m.name, was.Values, is.Values, m.digit, "", true},
				{m.name + ", ratio", was.Ratios, is.Ratios, 2, "×", m.cost && was.Name != was.Setting.base()},
			} {
				before, ok := part.was[m.name]
				if !ok || !part.compared {
					continue
				}
				cells++
				after, ok := part.is[m.name]
				text := "inside"
				if !ok || !before.holds(after.Median, part.digits) {
					outside++
					text = "**outside**"
				}
				fmt.Fprintf(w, "| %s | %s | %.*f%s | %s | %s |\n", was.Variant, part.name,
					part.digits, after.Median, part.sign, cellText(part.was, m.name, part.digits, part.sign), text)
			}
		}
	}
	fmt.Fprintf(w, "\n%d of %d medians inside the ranges of the earlier run.\n", cells-outside, cells)
	return outside
}
