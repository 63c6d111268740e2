package bpf_test

import (
	"regexp"
	"strings"
	"testing"

	"heddle.io/heddle/bpf"
)

func TestReasons(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for i, r := range bpf.Reasons() {
		if int(r) != i {
			t.Errorf("reason %d is at place %d", r, i)
		}
		if !code.MatchString(r.String()) || seen[r.String()] {
			t.Errorf("reason %d: %q is no code of its own", r, r)
		}
		seen[r.String()] = true
		text := r.Explain()
		if !strings.HasSuffix(text, ".") || strings.Contains(strings.TrimSuffix(text, "."), ". ") {
			t.Errorf("%s is not explained in one sentence: %q", r, text)
		}
	}
	unknown := bpf.Reason(len(bpf.Reasons()))
	if unknown.String() != "unknown" || unknown.Explain() == "" {
		t.Errorf("a reason of a later release: %q, %q", unknown, unknown.Explain())
	}
}
