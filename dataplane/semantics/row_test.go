package semantics

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/nettest"
)

func TestRowsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range All() {
		if r.Name == "" || r.Group == "" || r.Checks == "" || r.run == nil {
			t.Errorf("row %+v: give it a name, a group, a line about what it checks, and a program", r)
		}
		if strings.ContainsAny(r.Name+r.Checks, "|\n`") {
			t.Errorf("row %q does not fit into a table", r.Name)
		}
		if seen[r.Name] {
			t.Errorf("two rows are named %q", r.Name)
		}
		seen[r.Name] = true
	}
	if n := len(All()); n < 50 {
		t.Errorf("%d rows, the table has at least 50", n)
	}
	if n := len(Short()); n < 15 || n > 40 {
		t.Errorf("%d rows in the short form", n)
	}
}

// says makes a runner whose rows say what is in texts, a text for each run.
func says(texts map[string][]string) func([]Row) []Outcome {
	return func(rows []Row) []Outcome {
		var all []Outcome
		for _, r := range rows {
			left := texts[r.Name]
			all = append(all, Outcome{Row: r.Name, Text: left[0]})
			if len(left) > 1 {
				texts[r.Name] = left[1:]
			}
		}
		return all
	}
}

func TestCompareForgivesNoiseOnly(t *testing.T) {
	rows := []Row{{Name: "same"}, {Name: "noisy"}, {Name: "other"}}
	plain := says(map[string][]string{"same": {"a"}, "noisy": {"a"}, "other": {"a"}})
	other := says(map[string][]string{"same": {"a"}, "noisy": {"b", "b", "a"}, "other": {"b"}})
	_, o, differences := Compare(rows, plain, other)
	runs := 0
	if want := []Difference{{Row: "other", Plain: "a", Other: "b"}}; !slices.Equal(differences, want) {
		t.Errorf("differences %v, want %v", differences, want)
	}
	hanging := func(rows []Row) []Outcome {
		runs++
		return []Outcome{{Row: "hanging", Text: "hangs", Hangs: true}}
	}
	_, _, differences = Compare([]Row{{Name: "hanging"}}, says(map[string][]string{"hanging": {"a"}}), hanging)
	if want := []Difference{{Row: "hanging", Plain: "a", Other: "hangs"}}; !slices.Equal(differences, want) || runs != 2 {
		t.Errorf("a row that hangs: differences %v after %d runs, want %v after 2", differences, runs, want)
	}
	if o[1].Text != "a" {
		t.Errorf("the noisy row says %q, want the text of the run that agreed", o[1].Text)
	}
	if d := Differences([]Outcome{{Row: "x", Text: "a"}}, nil); len(d) != 1 || d[0].Other != notRun {
		t.Errorf("a row that was not run: %v", d)
	}
}

// TestARowThatHangsIsAnOutcome, and leaves neither threads nor descriptors.
func TestARowThatHangsIsAnOutcome(t *testing.T) {
	nettest.RequireBPF(t)
	w := world(t)
	warm := []Row{{Name: "warm", run: func(s *stage) { s.pair() }}}
	Run(t.Context(), w.Ends(false), warm)
	before := descriptors(t)
	hanging := Row{Name: "hanging", Limit: 200 * time.Millisecond, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("x"))
		s.say("server %q", s.take(v, 1))
		s.take(v, 1)
	}}
	failing := Row{Name: "failing", run: func(s *stage) {
		s.pair()
		s.need(unix.EPERM, "do it")
	}}
	got := Run(t.Context(), w.Ends(false), []Row{hanging, failing})
	for i, want := range []string{fmt.Sprintf("hangs after %q", `server "x"`), "cannot do it: EPERM"} {
		if got[i].Text != want {
			t.Errorf("%s: %s, want %s", got[i].Row, got[i].Text, want)
		}
	}
	nothingLeft(t, before)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o := Run(ctx, w.Ends(false), warm); o[0].Text != notRun {
		t.Errorf("without time left a row says %q", o[0].Text)
	}
}

// TestTheTableLeavesNothing: neither descriptors nor interfaces or namespaces.
func TestTheTableLeavesNothing(t *testing.T) {
	nettest.RequireBPF(t)
	run := func() {
		w, err := NewWorld()
		if err != nil {
			t.Fatal(err)
		}
		Run(t.Context(), w.Ends(false), Short())
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
	run() // what the runtime keeps for itself is there now
	before := descriptors(t)
	run()
	nothingLeft(t, before)
}

// nothingLeft waits for descriptors that other goroutines are closing.
func nothingLeft(t *testing.T, before int) {
	t.Helper()
	after := descriptors(t)
	for end := time.Now().Add(10 * time.Second); after > before && time.Now().Before(end); after = descriptors(t) {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
