package main

import (
	"slices"
	"strings"
	"testing"
)

// What every change has to pass is all of Must and nothing heavy, and the suite
// stays as it is.
func TestEssential(t *testing.T) {
	chosen := essential()
	for _, p := range suite {
		i := slices.IndexFunc(chosen.programs, func(c program) bool { return c.Package == p.Package })
		if (i >= 0) != (p.Must != nil) {
			t.Errorf("%s is at %d of the selection, and has to pass %q", p.Package, i, p.Must)
		}
		if p.Run != nil {
			t.Errorf("the suite itself runs only %q of %s", p.Run, p.Package)
		}
		if i < 0 {
			continue
		}
		c := chosen.programs[i]
		for _, name := range p.Must {
			if top, _, _ := strings.Cut(name, "/"); !slices.Contains(c.Run, top) {
				t.Errorf("%s of %s is not selected", name, p.Package)
			}
		}
		if c.Heavy != nil {
			t.Errorf("%s mentions %q, which do not run anyway", p.Package, c.Heavy)
		}
		if slices.Contains(c.Without["tcx"], "TestInterfacesAreAdopted") {
			t.Errorf("%s leaves out a test that does not run anyway", p.Package)
		}
	}
	attach := chosen.programs[slices.IndexFunc(chosen.programs, func(c program) bool { return c.Package == "dataplane/attach" })]
	args := attach.arguments("", []string{"tcx"})
	if !slices.Contains(args, "-test.skip=/^tcx$|//^tcx$") || !strings.Contains(strings.Join(args, " "), "-test.run=^(TestConnect|") {
		t.Errorf("arguments are %q", args)
	}
}

// A test of a mechanism has to pass where the mechanism is on, and only there.
func TestMissing(t *testing.T) {
	s := newSummary(nil, selection{programs: []program{{Package: "p", Must: []string{"TestA", "TestFast"}}}}, nil)
	a := &tally{name: "p", passed: map[string]bool{"TestA": true}}
	if got := s.missing(a, nil); !slices.Equal(got, []string{"TestFast"}) {
		t.Errorf("missing are %q", got)
	}
	if got := s.missing(a, map[string][]string{"without fast": {"TestFast"}}); len(got) != 0 {
		t.Errorf("missing are %q although the mechanism is off", got)
	}
}
