package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// canaryReport is what the canary showed.
type canaryReport struct {
	Steps    []canaryStep
	Requests int
	Failed   int
	Failures map[string]int
}

// canaryStep is one split of the route.
type canaryStep struct {
	V1, V2  int                      // weights
	Answers map[string]int           // while it was in force on both nodes
	Delay   map[string]time.Duration // by node: from the file to the kernel
}

// tolerance is how far a share may be from the exact one, in standard
// deviations: one in 16,000 honest checks fails.
const tolerance = 4

// observed is the share of a version, its expected value and how far off it is
// in standard deviations.
func (s *canaryStep) observed(version string, weight int) (share, expected, off float64) {
	n := 0
	for _, c := range s.Answers {
		n += c
	}
	expected = float64(weight) / float64(s.V1+s.V2)
	if n == 0 {
		return 0, expected, math.Inf(1)
	}
	share = float64(s.Answers[version]) / float64(n)
	sigma := math.Sqrt(expected * (1 - expected) / float64(n))
	switch {
	case share == expected:
		return share, expected, 0
	case sigma == 0: // a share of 0 or 1 is exact
		return share, expected, math.Inf(1)
	}
	return share, expected, (share - expected) / sigma
}

func (s *canaryStep) total() int {
	n := 0
	for _, c := range s.Answers {
		n += c
	}
	return n
}

// bad reports whether something was not as it must be.
func (r *canaryReport) bad() bool {
	return r.Failed > 0 || slices.ContainsFunc(r.Steps, func(s canaryStep) bool {
		_, _, off := s.observed("v1", s.V1)
		return math.Abs(off) > tolerance
	})
}

const (
	canaryRate  = 400                     // connections per second and client
	canaryStart = 500 * time.Millisecond  // for the clients to be at their rate
	canaryStay  = 2800 * time.Millisecond // of each split: enough connections to judge it
	applyLimit  = 10 * time.Second
)

// canary moves the route while a client on each node connects.
func (d *demo) canary(ctx context.Context) (*canaryReport, error) {
	d.say("\na canary, while a client on each node opens %d connections a second:", canaryRate)
	web, err := d.serviceAddress("web")
	if err != nil {
		return nil, err
	}
	var players []*player
	for _, pod := range []string{"client-1", "client-2"} {
		p, err := d.player(ctx, "shop", pod)
		if err != nil {
			return nil, err
		}
		defer p.quit()
		if err := p.begin(loadOrder{Target: netip.AddrPortFrom(web[0], 80).String(), Rate: canaryRate, Seconds: 60}); err != nil {
			return nil, err
		}
		players = append(players, p)
	}
	if err := wait(ctx, canaryStart); err != nil {
		return nil, err
	}
	report := &canaryReport{Failures: map[string]int{}}
	var windows [][2]time.Time // when each step was in force everywhere
	for _, w := range [][2]int{{90, 10}, {50, 50}, {0, 100}} {
		step, from, err := d.shift(ctx, w[0], w[1])
		if err != nil {
			return nil, err
		}
		d.say("  %d/%d is in force on both nodes", w[0], w[1])
		if err := wait(ctx, canaryStay); err != nil {
			return nil, err
		}
		report.Steps = append(report.Steps, *step)
		windows = append(windows, [2]time.Time{from, time.Now()})
	}
	for _, p := range players {
		if err := p.stop(); err != nil {
			return nil, fmt.Errorf("stop the load: %w", err)
		}
		result, err := p.end()
		if err != nil {
			return nil, err
		}
		report.count(result, windows)
	}
	return report, nil
}

// count adds what one client saw.
func (r *canaryReport) count(result *loadResult, windows [][2]time.Time) {
	r.Requests += result.Requests
	r.Failed += result.Failed
	for cause, n := range result.Failures {
		r.Failures[cause] += n
	}
	for _, s := range result.Steps {
		for i, w := range windows {
			if s.Begin.Before(w[0]) || s.Begin.Add(stepLength).After(w[1]) {
				continue
			}
			for who, n := range s.Answers {
				r.Steps[i].Answers[who] += n
			}
		}
	}
}

// shift writes the route and waits until both kernels have it. It returns when
// the later of them got it.
func (d *demo) shift(ctx context.Context, v1, v2 int) (*canaryStep, time.Time, error) {
	changes, err := d.s.Apply(ctx, canaryRoute(v1, v2))
	if err != nil {
		return nil, time.Time{}, err
	}
	written := changes[0].Written
	step := &canaryStep{V1: v1, V2: v2, Answers: map[string]int{}, Delay: map[string]time.Duration{}}
	last := written
	for _, node := range d.s.Nodes() {
		at, err := d.programmed(ctx, node, written)
		if err != nil {
			return nil, time.Time{}, err
		}
		step.Delay[node] = at.Sub(written)
		if at.After(last) {
			last = at
		}
	}
	return step, last, nil
}

// programmed waits until a node's kernel has got a change of service web after
// a moment, and returns when it did.
func (d *demo) programmed(ctx context.Context, node string, after time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	for {
		services, err := d.s.Agent(node).Services(ctx)
		if err != nil {
			return time.Time{}, err
		}
		for _, s := range services {
			if s.Namespace == "shop" && s.Name == "web" && s.Programmed.After(after) {
				return s.Programmed, nil
			}
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return time.Time{}, fmt.Errorf("the kernel of %s did not get the route within %s (heddlectl sandbox logs %s): %w", node, applyLimit, node, err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// delays names each node with its delay.
func delays(by map[string]time.Duration) string {
	var parts []string
	for node, d := range by {
		parts = append(parts, fmt.Sprintf("%s after %.1f ms", node, float64(d)/float64(time.Millisecond)))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func renderCanary(w io.Writer, r *canaryReport) {
	t := &table{indent: "  "}
	t.row("ROUTE", "CONNECTIONS", "v1 EXPECTED", "v1 OBSERVED", "OFF BY", "FILE TO KERNEL")
	for i := range r.Steps {
		s := &r.Steps[i]
		share, expected, off := s.observed("v1", s.V1)
		mark := ""
		if math.Abs(off) > tolerance {
			mark = " !"
		}
		t.row(fmt.Sprintf("%d/%d", s.V1, s.V2), fmt.Sprint(s.total()), percent(expected), percent(share), deviation(off)+mark, delays(s.Delay))
	}
	t.write(w)
	if r.Failed == 0 {
		fmt.Fprintf(w, "  %d connections in all, 0 failed\n", r.Requests)
		return
	}
	var causes []string
	for cause, n := range r.Failures {
		causes = append(causes, fmt.Sprintf("%s %d", cause, n))
	}
	slices.Sort(causes)
	fmt.Fprintf(w, "! %d connections in all, %d FAILED: %s\n", r.Requests+r.Failed, r.Failed, strings.Join(causes, ", "))
}

func deviation(off float64) string {
	if math.IsInf(off, 0) {
		return "wrong"
	}
	return fmt.Sprintf("%.1f σ", math.Abs(off))
}
