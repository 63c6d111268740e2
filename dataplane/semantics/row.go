package semantics

import (
	"fmt"
	"slices"
	"time"
)

// A Row is one thing that an application may expect of a connection.
type Row struct {
	Group  string
	Name   string        // unique
	Checks string        // what it does, in one line
	Short  bool          // in the form that agents run at start
	Limit  time.Duration // after which it hangs; 0 is 5 s

	run func(*stage)
}

// An Outcome is what a row said.
type Outcome struct {
	Row   string        `json:"row"`
	Group string        `json:"group"`
	Text  string        `json:"text"`
	Took  time.Duration `json:"took"`
	Hangs bool          `json:"hangs,omitempty"` // it did not end within its limit
}

// A Difference is a row that says something else than over plain TCP.
type Difference struct {
	Row   string `json:"row"`
	Plain string `json:"plain"`
	Other string `json:"other"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %q, over plain TCP %q", d.Row, d.Other, d.Plain)
}

// All returns every row.
func All() []Row {
	return slices.Concat(bulkRows, closeRows, abortRows, readRows, noticeRows, writeRows,
		completionRows, wakeRows, eventRows, orderRows, manyRows, optionRows)
}

// Short returns the rows that an in-kernel redirect is most likely to break.
// Together they take well below a second on an idle machine.
func Short() []Row {
	return slices.DeleteFunc(All(), func(r Row) bool { return !r.Short })
}

// notRun is the text of a row that other outcomes lack.
const notRun = "not run"

// Differences returns the rows of plain that other says something else of, in
// the order of plain. It judges one run of each: see Compare.
func Differences(plain, other []Outcome) []Difference {
	texts := map[string]string{}
	for _, o := range other {
		texts[o.Row] = o.Text
	}
	var all []Difference
	for _, p := range plain {
		text, ok := texts[p.Row]
		if !ok {
			text = notRun
		}
		if text != p.Text {
			all = append(all, Difference{Row: p.Row, Plain: p.Text, Other: text})
		}
	}
	return all
}

// Repeats is how often Compare runs a row again that differs. One that hangs is
// repeated once: each run takes its whole limit, which is no hiccup.
const Repeats = 3

// Compare runs rows over plain TCP and over something else, and returns what
// plain said first, what the other said first, and the rows that differ in that
// run and in up to Repeats further ones. plain and other run the rows they are
// given, as Run does. A difference is told as the first run saw it. A row that
// differs once and then agrees is noise; its outcome is that of the run in which
// it agreed.
func Compare(rows []Row, plain, other func([]Row) []Outcome) (p, o []Outcome, differences []Difference) {
	p, o = plain(rows), other(rows)
	differences = Differences(p, o)
	var certain []Difference
	open, latest := differences, o
	for i := range Repeats {
		if i > 0 {
			sure := func(d Difference) bool { return hangs(latest, d.Row) }
			certain = append(certain, slices.DeleteFunc(slices.Clone(open), func(d Difference) bool { return !sure(d) })...)
			open = slices.DeleteFunc(open, sure)
		}
		if len(open) == 0 {
			break
		}
		again := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !has(open, r.Name) })
		p2, o2 := plain(again), other(again)
		still := Differences(p2, o2)
		for _, d := range open {
			if !has(still, d.Row) {
				replace(p, p2, d.Row)
				replace(o, o2, d.Row)
			}
		}
		open, latest = still, o2
	}
	differences = slices.DeleteFunc(differences, func(d Difference) bool { return !has(open, d.Row) && !has(certain, d.Row) })
	return p, o, differences
}

func has(differences []Difference, row string) bool {
	return slices.ContainsFunc(differences, func(d Difference) bool { return d.Row == row })
}

func hangs(outcomes []Outcome, row string) bool {
	return slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Row == row && o.Hangs })
}

// replace puts a row's outcome of a later run into an earlier one.
func replace(in, from []Outcome, row string) {
	named := func(o Outcome) bool { return o.Row == row }
	if i, j := slices.IndexFunc(in, named), slices.IndexFunc(from, named); i >= 0 && j >= 0 {
		in[i] = from[j]
	}
}
