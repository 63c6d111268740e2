package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"heddle.io/heddle/install/sandbox"
)

// costReport is what a request costs with the mesh on and off.
type costReport struct {
	rounds int
	rows   []*costRow
	failed int
}

// costRow is one way of a connection, with its rounds.
type costRow struct {
	way    string // "same node"
	on     []sample
	off    []sample
	client map[bool]*player // by mesh
	pods   map[bool][2]*sandbox.Pod
	target map[bool]string
}

// sample is one short run.
type sample struct {
	p50, p99 float64 // µs, connect to last byte
	pods     float64 // µs of CPU per request: client and server pod
	all      float64 // µs of CPU per request: both nodes, agents and controller
}

const (
	costRate    = 500 // per second: the machine is far from busy, so latency is not queueing
	costSeconds = 0.5
	costWarm    = 0.1 // seconds before each run that do not count
	costRounds  = 8   // even: each side comes first equally often
)

// cost compares requests through the mesh with the same client program outside
// it, dialling a server outside it by pod address. Runs are short and take
// turns, so that what else the machine does falls on both.
func (d *demo) cost(ctx context.Context) (*costReport, error) {
	d.say("\nwhat a request costs: a new TCP connection and an HTTP request, %d a second, %d rounds in turns", costRate, costRounds)
	d.say("  (on: pods of the mesh by service address; off: the same programs outside it by pod address)")
	clients := map[bool]*player{}
	for mesh, pod := range map[bool][2]string{true: {"shop", "client-1"}, false: {"plain", "client"}} {
		p, err := d.player(ctx, pod[0], pod[1])
		if err != nil {
			return nil, err
		}
		defer p.quit()
		clients[mesh] = p
	}
	report := &costReport{rounds: costRounds}
	for _, w := range [][2]string{{"same node", "near"}, {"other node", "far"}} {
		row, err := d.costRow(w[0], w[1], clients)
		if err != nil {
			return nil, err
		}
		report.rows = append(report.rows, row)
	}
	for round := range costRounds {
		for _, row := range report.rows {
			for _, mesh := range []bool{round%2 == 0, round%2 != 0} {
				s, failed, err := d.sample(row, mesh)
				if err != nil {
					return nil, err
				}
				report.failed += failed
				if mesh {
					row.on = append(row.on, *s)
				} else {
					row.off = append(row.off, *s)
				}
				if err := ctx.Err(); err != nil {
					return nil, err
				}
			}
		}
	}
	return report, nil
}

// costRow prepares the two ends of a comparison.
func (d *demo) costRow(way, server string, clients map[bool]*player) (*costRow, error) {
	row := &costRow{way: way, client: clients, pods: map[bool][2]*sandbox.Pod{}, target: map[bool]string{}}
	for mesh, pair := range map[bool][2]string{true: {"shop", "client-1"}, false: {"plain", "client"}} {
		client, err := d.s.Pod(pair[0], pair[1])
		if err != nil {
			return nil, err
		}
		srv, err := d.s.Pod(pair[0], server)
		if err != nil {
			return nil, err
		}
		row.pods[mesh] = [2]*sandbox.Pod{client, srv}
		row.target[mesh] = netip.AddrPortFrom(srv.Addresses[0], 8080).String()
	}
	service, err := d.serviceAddress(server)
	if err != nil {
		return nil, err
	}
	row.target[true] = netip.AddrPortFrom(service[0], 80).String()
	return row, nil
}

// sample makes one run, after a short one that does not count, and reads the CPU clocks around it.
func (d *demo) sample(row *costRow, mesh bool) (*sample, int, error) {
	warm, err := row.play(mesh, costWarm)
	if err != nil {
		return nil, 0, err
	}
	before, err := d.clocks(row.pods[mesh])
	if err != nil {
		return nil, 0, err
	}
	result, err := row.play(mesh, costSeconds)
	if err != nil {
		return nil, 0, err
	}
	after, err := d.clocks(row.pods[mesh])
	if err != nil {
		return nil, 0, err
	}
	if result.Requests == 0 {
		return nil, 0, fmt.Errorf("no request of a run was answered: %v", result.Failures)
	}
	per := func(d time.Duration) float64 {
		return float64(d) / float64(time.Microsecond) / float64(result.Requests)
	}
	return &sample{
		p50: result.P50, p99: result.P99,
		pods: per(after[0] - before[0]), all: per(after[1] - before[1]),
	}, warm.Failed + result.Failed, nil
}

// play has the client of a side make requests for a while.
func (row *costRow) play(mesh bool, seconds float64) (*loadResult, error) {
	p := row.client[mesh]
	if err := p.begin(loadOrder{Target: row.target[mesh], Rate: costRate, Seconds: seconds}); err != nil {
		return nil, fmt.Errorf("start a run: %w", err)
	}
	return p.end()
}

// clocks are the CPU times of a client and its server, and of everything.
func (d *demo) clocks(pods [2]*sandbox.Pod) (out [2]time.Duration, err error) {
	for _, p := range pods {
		used, err := p.CPU()
		if err != nil {
			return out, err
		}
		out[0] += used
	}
	out[1], err = d.s.CPU()
	return out, err
}

func renderCost(w io.Writer, r *costReport) {
	t := &table{indent: "  "}
	t.row("WAY", "MESH", "p50", "p99", "CPU OF CLIENT+SERVER", "CPU OF BOTH NODES")
	for _, row := range r.rows {
		for _, side := range []struct {
			name    string
			samples []sample
		}{{"off", row.off}, {"on", row.on}} {
			col := func(of func(sample) float64) string {
				return fmt.Sprintf("%.0f µs", median(side.samples, of))
			}
			t.row(row.way, side.name,
				col(func(s sample) float64 { return s.p50 }), col(func(s sample) float64 { return s.p99 }),
				col(func(s sample) float64 { return s.pods })+" per request", col(func(s sample) float64 { return s.all })+" per request")
		}
		ratio := func(of func(sample) float64) string {
			r := pairedRatios(row.on, row.off, of)
			return fmt.Sprintf("%.2f× (%.2f to %.2f)", middle(r), quantile(r, 0.25), quantile(r, 0.75))
		}
		t.row("", "on/off",
			ratio(func(s sample) float64 { return s.p50 }), ratio(func(s sample) float64 { return s.p99 }),
			ratio(func(s sample) float64 { return s.pods }), ratio(func(s sample) float64 { return s.all }))
	}
	t.write(w)
	fmt.Fprintf(w, "  (medians of %d rounds; on/off is that of the rounds' own ratios, with the middle half of them)\n", r.rounds)
	if r.failed > 0 {
		fmt.Fprintf(w, "! %s FAILED\n", plural(r.failed, "request"))
	}
}

func median(samples []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, of(s))
	}
	return middle(values)
}

// pairedRatios are the ratios within each round, sorted: what disturbs a round
// disturbs both sides of it.
func pairedRatios(on, off []sample, of func(sample) float64) []float64 {
	var values []float64
	for i := range min(len(on), len(off)) {
		if d := of(off[i]); d > 0 {
			values = append(values, of(on[i])/d)
		}
	}
	slices.Sort(values)
	return values
}

func middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
