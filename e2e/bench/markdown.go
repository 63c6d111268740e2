package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// render writes the report as Markdown.
func (r *Report) render(w io.Writer) {
	fmt.Fprintf(w, "# Bench of %s, Linux %s\n\n", r.Date.Format("2006-01-02 15:04 MST"), r.Kernel)
	fmt.Fprintf(w, "- CPU: %s; mode %s on %s; congestion control %s\n", r.CPU, r.Mode, coresText(r.Cores), r.Congestion)
	fmt.Fprintf(w, "- command: `%s`\n- commit: %s\n", r.Command, r.Commit)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, "- %s: %s\n", name, r.Versions[name])
	}
	fmt.Fprintf(w, "- %d rounds, all variants in each, in turns; %.3g s for each figure after %.3g s of warm-up\n", len(r.Rounds), r.Cell, r.Warm)
	fmt.Fprintf(w, "- figures are medians [lowest–highest] of the rounds; ratios are those within each round; CPU is that of\n  client, server, proxy, agent, controller and ksoftirqd, by the scheduler's clock\n")
	for _, s := range settings {
		r.renderSetting(w, s)
	}
	if len(r.Left) > 0 {
		fmt.Fprintf(w, "\n## Not available\n\n| variant | why |\n|---|---|\n")
		for _, a := range r.Left {
			fmt.Fprintf(w, "| %s | %s |\n", a.Variant, strings.ReplaceAll(a.Reason, "|", "/"))
		}
	}
	r.renderChecks(w)
	r.renderGoals(w)
}

func (r *Report) renderSetting(w io.Writer, s setting) {
	var rows []*Row
	for _, row := range r.Rows {
		if row.Setting == s {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## Node with %s\n\nCPU\n\n", s)
	values := func(row *Row, m metric) string { return cellText(row.Values, m.name, m.digit, "") }
	table(w, rows, func(m metric) string { return m.title(m.cost) }, values)
	fmt.Fprintf(w, "\nCPU, as a ratio to %s\n\n", s.base())
	others := slices.DeleteFunc(slices.Clone(rows), func(row *Row) bool { return row.Name == s.base() })
	table(w, others, func(m metric) string {
		if m.cost {
			return m.name
		}
		return ""
	}, func(row *Row, m metric) string { return cellText(row.Ratios, m.name, 2, "×") })
	fmt.Fprintf(w, "\nOn the clock on the wall\n\n")
	table(w, rows, func(m metric) string { return m.title(!m.cost) }, values)
}

// title is the head of the metric's column, with its unit; empty when it has none.
func (m metric) title(wanted bool) string {
	switch {
	case !wanted:
		return ""
	case m.unit == "":
		return m.name
	}
	return m.name + ", " + m.unit
}

// table has a row for each variant and a column for each metric with a title.
func table(w io.Writer, rows []*Row, title func(metric) string, text func(*Row, metric) string) {
	head, line := "| variant |", "|---|"
	for _, m := range metrics {
		if t := title(m); t != "" {
			head += " " + t + " |"
			line += "---|"
		}
	}
	fmt.Fprintln(w, head)
	fmt.Fprintln(w, line)
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |", row.Name)
		for _, m := range metrics {
			if title(m) != "" {
				fmt.Fprintf(w, " %s |", text(row, m))
			}
		}
		fmt.Fprintln(w)
	}
}

func cellText(all map[string]Range, name string, digits int, sign string) string {
	x, ok := all[name]
	if !ok {
		return "–"
	}
	if sign != "" {
		return fmt.Sprintf("%.*f%s [%.*f–%.*f]", digits, x.Median, sign, digits, x.Min, digits, x.Max)
	}
	return x.text(digits)
}

// renderChecks shows what the run verified about itself.
func (r *Report) renderChecks(w io.Writer) {
	fmt.Fprintf(w, "\n## Checks\n\nEvery reply was compared with its request, every stream's length with what was sent; no connection failed.\n\n")
	fmt.Fprintf(w, "| variant | connections | counted by the mesh | served by its mechanism | CPU clocks / busy cores |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		counted, served := "–", "–"
		if row.Established > 0 {
			counted, served = fmt.Sprint(row.Established), fmt.Sprint(row.Served)
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s |\n", row.Variant, row.Made, counted, served, row.Counted.text(2))
	}
	said := map[string][]string{} // the same words are shown once
	for _, name := range slices.Sorted(maps.Keys(r.Features)) {
		text := strings.Join(r.Features[name], "; ")
		said[text] = append(said[text], name)
	}
	for _, text := range slices.Sorted(maps.Keys(said)) {
		fmt.Fprintf(w, "\nWhat the agent says (%s): %s.\n", strings.Join(said[text], "; "), text)
	}
}

func coresText(cores []int) string {
	if len(cores) == 1 {
		return fmt.Sprintf("core %d", cores[0])
	}
	return fmt.Sprintf("cores %v", cores)
}
