package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/e2e/golden"
)

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		v1, v2, n1, n2 int
		off            float64
	}{
		{90, 10, 900, 100, 0},
		{50, 50, 520, 480, 1.265},
		{0, 100, 0, 1000, 0},
		{0, 100, 1, 999, math.Inf(1)},
		{90, 10, 0, 0, math.Inf(1)},
	} {
		s := canaryStep{V1: tt.v1, V2: tt.v2, Answers: map[string]int{"v1": tt.n1, "v2": tt.n2}}
		_, _, off := s.observed("v1", s.V1)
		if math.Abs(off-tt.off) > 0.001 && off != tt.off {
			t.Errorf("%+v: off by %f σ, want %f", tt, off, tt.off)
		}
	}
}

// TestWindows: only what was begun while a step was in force everywhere counts
// for its shares; every failure counts.
func TestWindows(t *testing.T) {
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	r := &canaryReport{Failures: map[string]int{}, Steps: []canaryStep{{Answers: map[string]int{}}, {Answers: map[string]int{}}}}
	r.count(&loadResult{
		Requests: 40, Failed: 1, Failures: map[string]int{"ECONNREFUSED": 1},
		Steps: []loadStep{
			{Begin: at(0), Answers: map[string]int{"v1": 1}},   // before the first
			{Begin: at(20), Answers: map[string]int{"v1": 10}}, // in the first
			{Begin: at(90), Answers: map[string]int{"v1": 3}},  // ends after the first
			{Begin: at(200), Answers: map[string]int{"v2": 7}}, // in the second
		},
	}, [][2]time.Time{{at(10), at(100)}, {at(150), at(300)}})
	if r.Steps[0].Answers["v1"] != 10 || r.Steps[0].total() != 10 || r.Steps[1].Answers["v2"] != 7 || r.Requests != 40 || r.Failed != 1 {
		t.Errorf("counted %+v", r)
	}
	if !r.bad() {
		t.Error("a failed connection is not bad")
	}
}

func TestRenderDemo(t *testing.T) {
	delay := map[string]time.Duration{"node1": 7300 * time.Microsecond, "node2": 8100 * time.Microsecond}
	good := &canaryReport{Requests: 7000, Steps: []canaryStep{
		{V1: 90, V2: 10, Answers: map[string]int{"v1": 1810, "v2": 190}, Delay: delay},
		{V1: 0, V2: 100, Answers: map[string]int{"v2": 2000}, Delay: delay},
	}}
	bad := &canaryReport{Requests: 10, Failed: 2, Failures: map[string]int{"timeout": 1, "ECONNRESET": 1}, Steps: []canaryStep{
		{V1: 0, V2: 100, Answers: map[string]int{"v1": 1, "v2": 9}, Delay: delay},
	}}
	cost := &costReport{rounds: 3, failed: 1, rows: []*costRow{{
		way: "same node",
		on:  []sample{{100, 200, 50, 60}, {110, 210, 50, 60}, {90, 190, 70, 80}},
		off: []sample{{100, 200, 50, 60}, {100, 200, 40, 60}, {100, 200, 50, 80}},
	}}}
	var out strings.Builder
	renderCanary(&out, good)
	renderCanary(&out, bad)
	renderCost(&out, cost)
	golden.Check(t, "demo.txt", out.String())
}

func TestQuantiles(t *testing.T) {
	values := []float64{1, 2, 3, 4}
	if quantile(values, 0.5) != 3 || quantile(values, 1) != 4 || quantile(nil, 0.5) != 0 {
		t.Error("quantile")
	}
	if middle([]float64{3, 1, 2}) != 2 || middle([]float64{4, 1, 2, 3}) != 2.5 || middle(nil) != 0 {
		t.Error("middle")
	}
}

func TestWrkLine(t *testing.T) {
	got := wrkLine("Running 1s test\n  12 requests in 1.00s\n  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec:   12345.67\nTransfer/sec: 1MB\n")
	if got != "Socket errors: connect 0, read 1, write 0, timeout 0, Requests/sec: 12345.67" {
		t.Errorf("got %q", got)
	}
}
