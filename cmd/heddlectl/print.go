package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"

	"heddle.io/heddle/api/admin"
)

// print writes a value as -o asks; text writes it for people.
func (a *app) print(v any, text func(io.Writer)) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		out, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = a.out.Write(out)
		return err
	}
	text(a.out)
	return nil
}

// table lines up columns. Rows end without blanks, so that output can be
// compared as text.
type table struct {
	rows   [][]string
	indent string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	var buf strings.Builder
	tw := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintln(tw, t.indent+strings.Join(cells, "\t"))
	}
	tw.Flush()
	for line := range strings.Lines(buf.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// ago is how long before now something was, coarse enough to read.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	d := now.Sub(then)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(max(d, 0)/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + "%" }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// orDash keeps a column visible where there is nothing to say.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

func counts(list []admin.Count) string {
	var parts []string
	for _, c := range list {
		parts = append(parts, c.Name+" "+number(c.Count))
	}
	return strings.Join(parts, ", ")
}

// names joins what the addresses of a list of endpoints are.
func addresses(endpoints []admin.Endpoint) string {
	var parts []string
	for _, e := range endpoints {
		if e.Used {
			parts = append(parts, e.Address)
		}
	}
	const most = 4
	if len(parts) > most {
		return strings.Join(parts[:most], ",") + fmt.Sprintf(",… (%d)", len(parts))
	}
	return orDash(strings.Join(parts, ","))
}
