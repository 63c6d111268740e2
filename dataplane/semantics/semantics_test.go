package semantics

import (
	"testing"

	"heddle.io/heddle/dataplane/nettest"
)

// TestPlainEqualsPlain is the table's stability: over plain TCP no row differs
// from itself, whatever else the machine does.
func TestPlainEqualsPlain(t *testing.T) {
	nettest.RequireBPF(t)
	for _, v6 := range []bool{false, true} {
		w := world(t)
		run := func(rows []Row) []Outcome { return Run(t.Context(), w.Ends(v6), rows) }
		first, _, differences := Compare(All(), run, run)
		for _, o := range first {
			t.Logf("%6d ms %s | %s", o.Took.Milliseconds(), o.Row, o.Text)
		}
		for _, d := range differences {
			t.Errorf("IPv6 %v: plain TCP differs from itself: %s", v6, d)
		}
	}
}

func world(t *testing.T) *World {
	t.Helper()
	w, err := NewWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}
