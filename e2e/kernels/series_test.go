package main

import (
	"io"
	"strings"
	"testing"
)

// A kernel on which something is off that has to be on fails, and the other way
// round, also when every test passed.
func TestLacks(t *testing.T) {
	untracked := func(lacks ...string) []string { return append(lacks, needConntrack...) }
	for _, test := range []struct {
		name    string
		release string
		off     map[string][]string // by circumstances
		fails   []string
	}{
		{"as known", "6.1.0-1-cloud", map[string][]string{withoutConntrack: untracked("tcx", "socket_bypass"), withConntrack: {"tcx", "socket_bypass"}}, nil},
		{"as known", "6.12.5+deb12", map[string][]string{withoutConntrack: untracked(), withConntrack: nil}, nil},
		{"no falling back", "6.12.5", map[string][]string{withoutConntrack: nil, withConntrack: nil}, []string{
			"heddled without connection tracking: fast_path is not off",
		}},
		{"off without need", "6.12.5", map[string][]string{withoutConntrack: untracked(), withConntrack: {"tcx", "walk"}}, []string{
			"heddled with connection tracking: tcx is off and has to be on, walk is off and has to be on",
		}},
		{"on against expectation", "6.1.5", map[string][]string{withoutConntrack: untracked("tcx", "socket_bypass"), withConntrack: {"socket_bypass"}}, []string{
			"heddled with connection tracking: tcx is not off",
		}},
		{"one agent did not run", "6.12.5", map[string][]string{withConntrack: nil}, []string{"no heddled ran without connection tracking"}},
		{"unknown series", "6.18.1", map[string][]string{withConntrack: {"tcx"}}, nil},
	} {
		t.Run(test.release+" "+test.name, func(t *testing.T) {
			s := newSummary(io.Discard, selection{}, lacks(test.release))
			s.off, s.finished = test.off, true
			err := s.verdict()
			if (err != nil) != (test.fails != nil) {
				t.Fatalf("the verdict is %v", err)
			}
			for _, text := range test.fails {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the verdict %q does not say %q", err, text)
				}
			}
		})
	}
}
