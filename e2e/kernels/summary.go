package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// summary turns a guest's records into a short text, and into a verdict.
type summary struct {
	out     io.Writer
	verbose bool // show every line
	tests   selection
	lacks   map[string][]string // mechanisms, by the agent's circumstances

	agent    string              // circumstances of the one whose features follow
	off      map[string][]string // mechanisms, by circumstances
	running  *tally
	ended    []string // packages
	finished bool
	failures []error
}

func newSummary(out io.Writer, tests selection, lacks map[string][]string) *summary {
	return &summary{out: out, tests: tests, lacks: lacks, off: map[string][]string{}}
}

// tally counts the tests of one package.
type tally struct {
	name            string
	last            string // the test that began last
	passed          map[string]bool
	failed, skipped []string
	said            []string // by the test that runs, or did not pass
	wrong           []string // by those before it that did not pass
}

// take takes one line from the guest.
func (s *summary) take(text []byte) {
	var r record
	if json.Unmarshal(text, &r) != nil {
		return // the firmware's
	}
	switch r.Kind {
	case booted:
		s.say("Linux %s, up after %.1f s", r.Text, r.Seconds)
	case agent:
		s.say("heddled %s:", r.Text)
		s.agent, s.off[r.Text] = r.Text, nil
	case feature:
		s.say("   %-18s %-3s  %s", r.Text, onOff(r.On), r.Why)
		if !r.On {
			s.off[s.agent] = append(s.off[s.agent], r.Text)
		}
	case started:
		s.running = &tally{name: r.Package, passed: map[string]bool{}}
	case line:
		if s.running != nil {
			s.running.add(r.Text)
		}
		if s.verbose {
			s.say("%s", r.Text)
		}
	case ended:
		if s.running != nil {
			s.end(s.running, r)
			s.running = nil
		}
	case broken:
		s.fail("the guest could not go on: %s", r.Text)
	case finished:
		s.finished = true
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (s *summary) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   "+format+"\n", args...)
}

func (s *summary) fail(format string, args ...any) {
	s.failures = append(s.failures, fmt.Errorf(format, args...))
}

// add counts a line of go test -v, and keeps it until its test has passed.
func (t *tally) add(text string) {
	t.said = append(t.said, text)
	if name, ok := strings.CutPrefix(text, "=== RUN   "); ok {
		t.last = name
		return
	}
	result, rest, _ := strings.Cut(strings.TrimLeft(text, " "), ": ")
	name, _, _ := strings.Cut(rest, " (")
	passed := false
	switch result {
	case "--- PASS":
		t.passed[name] = true
		passed = true
	case "--- FAIL":
		t.failed = append(t.failed, name)
	case "--- SKIP":
		t.skipped = append(t.skipped, name)
	default:
		return
	}
	// The results of subtests follow the one of their parent.
	if !passed {
		t.wrong = append(t.wrong, t.said...)
	}
	t.said = nil
}

// end judges a package. A guest has root and a kernel above the floor, so
// nothing may be skipped there.
func (s *summary) end(t *tally, r record) {
	s.ended = append(s.ended, t.name)
	text := fmt.Sprintf("%-18s %d passed", t.name, len(t.passed))
	if t.failed != nil {
		text += fmt.Sprintf(", %d failed", len(t.failed))
	}
	if t.skipped != nil {
		text += fmt.Sprintf(", %d skipped", len(t.skipped))
	}
	s.say("%s in %.1f s", text, r.Seconds)
	for _, reason := range slices.Sorted(maps.Keys(r.LeftOut)) {
		s.say("%-18s left out, %s: %s", "", reason, strings.Join(r.LeftOut[reason], ", "))
	}
	var wrong []string
	if r.Text != "" {
		wrong = append(wrong, r.Text)
	}
	if t.failed != nil {
		wrong = append(wrong, "failed: "+strings.Join(t.failed, ", "))
	}
	if t.skipped != nil {
		wrong = append(wrong, "skipped, which nothing may be here: "+strings.Join(t.skipped, ", "))
	}
	if missing := s.missing(t, r.LeftOut); len(missing) > 0 {
		wrong = append(wrong, "did not pass, but has to on every kernel (e2e/kernels/suite.go): "+strings.Join(missing, ", "))
	}
	if wrong == nil {
		return
	}
	s.fail("%s: %s", t.name, strings.Join(wrong, "; "))
	s.show(t)
}

// show shows what a package said that did not pass.
func (s *summary) show(t *tally) {
	if lines := slices.Concat(t.wrong, t.said); !s.verbose && lines != nil {
		s.say("   %s", strings.Join(lines, "\n      "))
	}
}

// missing are the tests that must have passed and did not. Those of a mechanism
// that the kernel does not have are left out.
func (s *summary) missing(t *tally, leftOut map[string][]string) []string {
	if s.tests.only != "" {
		return nil
	}
	var all []string
	for _, p := range s.tests.programs {
		if p.Package == t.name {
			all = slices.Clone(p.Must)
		}
	}
	excused := slices.Concat(slices.Collect(maps.Values(leftOut))...)
	return slices.DeleteFunc(all, func(name string) bool {
		return t.passed[name] || slices.Contains(excused, name)
	})
}

// verdict is nil when everything ran and passed.
func (s *summary) verdict() error {
	if s.running != nil {
		s.fail("the guest ended in %s, %s", s.running.name, s.running.last)
		s.show(s.running)
	}
	if !s.finished && s.failures == nil {
		s.fail("the guest ended before it was finished")
	}
	for _, circumstances := range slices.Sorted(maps.Keys(s.lacks)) {
		off, met := s.off[circumstances]
		switch {
		case met:
			if err := compareOff(circumstances, off, s.lacks[circumstances]); err != nil {
				s.failures = append(s.failures, err)
			}
		case s.finished:
			s.fail("no heddled ran %s", circumstances)
		}
	}
	for _, p := range s.tests.programs {
		if s.finished && !slices.Contains(s.ended, p.Package) {
			s.fail("%s did not run", p.Package)
		}
	}
	return errors.Join(s.failures...)
}
