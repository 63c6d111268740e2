package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// guestSays plays records of a guest of series 6.1, with a passing run of every
// package but those of changed.
func guestSays(t *testing.T, changed map[string][]string, end ...record) (said string, err error) {
	t.Helper()
	var out strings.Builder
	s := newSummary(&out, everything(""), lacks("6.1.0-test"))
	send := func(r record) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		s.take(text)
	}
	s.take([]byte("SeaBIOS"))
	send(record{Kind: booted, Text: "6.1.0-test", Seconds: 2.5})
	for _, circumstances := range []string{withoutConntrack, withConntrack} {
		send(record{Kind: agent, Text: circumstances})
		send(record{Kind: feature, Text: "tcx", On: false, Why: "it is too old"})
		send(record{Kind: feature, Text: "socket_bypass", On: false, Why: "it is too old"})
		for _, name := range needConntrack {
			send(record{Kind: feature, Text: name, On: circumstances == withConntrack})
		}
	}
	for _, p := range suite {
		lines := changed[p.Package]
		if lines == nil {
			for _, name := range p.Must {
				lines = append(lines, "=== RUN   "+name, "    x_test.go:1: "+name+" speaks", "--- PASS: "+name+" (0.01s)")
			}
		}
		send(record{Kind: started, Package: p.Package})
		for _, l := range lines {
			send(record{Kind: line, Package: p.Package, Text: l})
		}
		if lines == nil || !strings.HasPrefix(lines[len(lines)-1], "=== RUN") {
			send(record{Kind: ended, Package: p.Package, Seconds: 1, LeftOut: p.leftOut([]string{"tcx"})})
		}
	}
	for _, r := range end {
		send(r)
	}
	err = s.verdict()
	return out.String(), err
}

func TestSummary(t *testing.T) {
	done := record{Kind: finished}
	for _, test := range []struct {
		name    string
		changed map[string][]string
		end     []record
		says    []string
		never   string
		fails   []string // nil: passes
	}{
		{
			name: "all is well", end: []record{done},
			says:  []string{"Linux 6.1.0-test, up after 2.5 s", "heddled with connection tracking:\n      tcx                off  it is too old", "left out, without tcx: */tcx, "},
			never: "speaks",
		},
		{
			name: "a test fails", end: []record{done},
			changed: map[string][]string{"dataplane/netns": {
				"=== RUN   TestGood", "    x_test.go:1: quiet", "--- PASS: TestGood (0.01s)", "    --- PASS: TestGood/sub (0.01s)",
				"=== RUN   TestBad", "    x_test.go:2: loud", "--- FAIL: TestBad (0.01s)", "    --- PASS: TestBad/sub (0.00s)",
			}},
			says: []string{"dataplane/netns    3 passed, 1 failed", "loud"}, never: "quiet",
			fails: []string{"dataplane/netns: failed: TestBad"},
		},
		{
			name: "a test is skipped", end: []record{done},
			changed: map[string][]string{"dataplane/netns": {"--- SKIP: TestShy (0.01s)"}},
			fails:   []string{"skipped", "TestShy"},
		},
		{
			name: "a test that must pass is gone", end: []record{done},
			changed: map[string][]string{"bpf": {"--- PASS: TestLoad (0.01s)"}},
			fails:   []string{"bpf: did not pass", "TestDecide"},
		},
		{
			name:    "the guest dies in a test",
			changed: map[string][]string{"dataplane/node": {"=== RUN   TestDeadly"}},
			says:    []string{"=== RUN   TestDeadly"},
			fails:   []string{"the guest ended in dataplane/node, TestDeadly"},
		},
		{name: "the guest dies between tests", fails: []string{"ended before it was finished"}},
		{
			name: "the guest gives up", end: []record{{Kind: broken, Text: "no module veth"}},
			fails: []string{"could not go on: no module veth"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, err := guestSays(t, test.changed, test.end...)
			for _, text := range test.says {
				if !strings.Contains(said, text) {
					t.Errorf("the summary does not say %q:\n%s", text, said)
				}
			}
			if test.never != "" && strings.Contains(said, test.never) {
				t.Errorf("the summary says %q:\n%s", test.never, said)
			}
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
