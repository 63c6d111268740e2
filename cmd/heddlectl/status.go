package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

// statusReport is what `status -o json` prints.
type statusReport struct {
	// Controller is what the replicas say together: nodes of all, the rest of
	// the one that leads.
	Controller *admin.ControllerStatus `json:"controller,omitempty"`
	Replicas   []replicaReport         `json:"replicas,omitempty"` // in a cluster
	Nodes      []nodeReport            `json:"nodes"`
	Absent     []absent                `json:"absent,omitempty"`   // nodes of a cluster that nothing is known of
	Unlisted   string                  `json:"unlisted,omitempty"` // why nodes without an agent are not known
	Errors     []string                `json:"errors,omitempty"`   // who could not be asked
	Healthy    bool                    `json:"healthy"`
}

type nodeReport struct {
	admin.AgentStatus
	Maps []admin.Map `json:"maps,omitempty"`
	// Lag says how the agent is behind the controller; empty: it is not.
	Lag string `json:"lag,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the controller and each node: feed, tables, problems, refusals",
		Long: `Show the controller and each node: feed, tables, problems, refusals.

In a cluster each node has a row; of many nodes only those that need attention
(--all shows every one, --node NAME one in full). An agent is asked by a program
in its pod, which needs the right to create pods/exec in Heddle's namespace.

Exit code 1 when something needs attention, 3 when somebody cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			now := time.Now()
			render := func(w io.Writer) { renderStatus(w, report, now) }
			if report.Replicas != nil && a.node == "" {
				render = func(w io.Writer) { renderCluster(w, report, all, now) }
			}
			if err := a.print(report, render); err != nil {
				return err
			}
			switch {
			case len(report.Errors) > 0:
				return &problem{exitUnreachable}
			case !report.Healthy:
				return &problem{exitProblem}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "in a cluster: a row for every node")
	return cmd
}

func (a *app) status(ctx context.Context) (*statusReport, error) {
	t, err := a.targets(ctx)
	if err != nil {
		return nil, err
	}
	return a.collect(ctx, t)
}

// collect asks everybody. Whoever does not answer is in the report.
func (a *app) collect(ctx context.Context, t *targets) (*statusReport, error) {
	report := &statusReport{Nodes: []nodeReport{}}
	if a.node == "" {
		report.askControllers(ctx, t)
	}
	nodes := make([]*nodeReport, len(t.agents))
	errs := make([]error, len(t.agents))
	each(len(t.agents), func(i int) { nodes[i], errs[i] = askNode(ctx, &t.agents[i]) })
	for i, n := range nodes {
		var gone *client.Unreachable
		switch {
		case errs[i] == nil:
			report.Nodes = append(report.Nodes, *n)
		case !errors.As(errs[i], &gone):
			return nil, errs[i]
		case t.cluster != nil:
			reason := fmt.Sprintf("%s does not answer: %v", t.agents[i].pod, gone.Err)
			report.Absent = append(report.Absent, absent{t.agents[i].node, reason})
			report.Errors = append(report.Errors, errs[i].Error())
		default:
			report.Errors = append(report.Errors, errs[i].Error())
		}
	}
	if t.cluster != nil && a.node == "" {
		report.findUncovered(ctx, t)
	}
	report.compare()
	report.Healthy = len(report.Errors) == 0 && len(concerns(report)) == 0
	return report, nil
}

func askNode(ctx context.Context, agent *target) (*nodeReport, error) {
	if _, err := agent.name(ctx); err != nil {
		return nil, err
	}
	status, err := agent.Status(ctx)
	if err != nil {
		return nil, err
	}
	maps, err := agent.Maps(ctx)
	if err != nil {
		return nil, err
	}
	return &nodeReport{AgentStatus: *status, Maps: maps}, nil
}

// concerns is everything that needs attention, one line each.
func concerns(r *statusReport) []string {
	var out []string
	if c := r.Controller; c != nil {
		if c.Source.Error != "" {
			out = append(out, "the controller cannot read its source")
		}
		for _, p := range c.Problems {
			out = append(out, p.Object+": "+p.Reason)
		}
	}
	for i := range r.Nodes {
		out = append(out, nodeConcerns(&r.Nodes[i])...)
	}
	for _, n := range r.Absent {
		out = append(out, n.concern())
	}
	return out
}

func nodeConcerns(n *nodeReport) []string {
	var out []string
	switch {
	case !n.Feed.Connected:
		out = append(out, n.Node+" is not connected to the controller")
	case !n.Feed.Synced:
		out = append(out, n.Node+" has not received everything yet")
	}
	if n.Plan.Error != "" {
		out = append(out, n.Node+" could not write its tables")
	}
	for _, p := range n.Problems {
		out = append(out, n.Node+": "+p.Object+": "+p.Reason)
	}
	return out
}

func renderStatus(w io.Writer, r *statusReport, now time.Time) {
	if r.Controller != nil {
		renderController(w, r.Controller, now)
	}
	for _, n := range r.Nodes {
		renderNode(w, &n, now)
	}
	for _, e := range r.Errors {
		fmt.Fprintln(w, "unreachable:", e)
	}
	if r.Healthy {
		fmt.Fprintln(w, "healthy")
		return
	}
	for _, c := range concerns(r) {
		fmt.Fprintln(w, "attention:", c)
	}
}

// line writes one fact of a block.
func line(w io.Writer, label, format string, args ...any) {
	fmt.Fprintf(w, "  %-9s "+format+"\n", append([]any{label}, args...)...)
}

func renderController(w io.Writer, c *admin.ControllerStatus, now time.Time) {
	fmt.Fprintf(w, "controller  %s, up %s\n", c.Version, ago(now, c.Started))
	line(w, "source", "%s:%s", c.Source.Kind, c.Source.Path)
	if c.Source.Error != "" {
		line(w, "", "cannot be read: %s", c.Source.Error)
		line(w, "", "the last good objects are in force")
	}
	line(w, "objects", "%s", orDash(counts(c.Objects)))
	for _, n := range c.Nodes {
		line(w, "node", "%s: connected %s ago, %s, %d accepted, %d refused", n.Node, ago(now, n.Connected), plural(n.Resources, "resource"), n.Acks, n.Nacks)
		renderNack(w, n.LastNack, now)
	}
	if len(c.Nodes) == 0 {
		line(w, "node", "none is connected")
	}
	renderProblems(w, c.Problems, now)
	fmt.Fprintln(w)
}

func renderNode(w io.Writer, n *nodeReport, now time.Time) {
	zone := ""
	if n.Zone != "" {
		zone = n.Zone + ", "
	}
	fmt.Fprintf(w, "%s  %sheddled %s, kernel %s, up %s\n", n.Node, zone, n.Version, n.Kernel, ago(now, n.Started))
	renderFeed(w, &n.Feed, now)
	line(w, "tables", "%s, %s, %s", plural(n.Pods, "pod"), plural(n.Services, "service port"), plural(n.Endpoints, "endpoint"))
	if n.Plan.Applied.IsZero() {
		line(w, "", "nothing written yet")
	} else {
		line(w, "", "last change %s ago: %s in %s", ago(now, n.Plan.Applied), plural(n.Plan.LastOps, "operation"), seconds(n.Plan.LastTook))
	}
	if n.Plan.Error != "" {
		line(w, "", "not applied: %s", n.Plan.Error)
	}
	line(w, "maps", "%s", orDash(fullest(n.Maps)))
	renderFeatures(w, n.Features)
	renderMechanisms(w, n.Mechanisms)
	renderReasons(w, n.Reasons)
	renderProblems(w, n.Problems, now)
	fmt.Fprintln(w)
}

func renderFeed(w io.Writer, f *admin.Feed, now time.Time) {
	state := fmt.Sprintf("connected to %s for %s", f.Server, ago(now, f.Since))
	if !f.Connected {
		state = fmt.Sprintf("NOT connected to %s for %s", f.Server, ago(now, f.Since))
	}
	switch {
	case !f.Synced:
		state += ", not synced yet"
	case f.FromCache:
		state += ", working from the cache on disk"
	default:
		state += ", synced"
	}
	line(w, "feed", "%s", state)
	if f.Error != "" && !f.Connected {
		line(w, "", "last error: %s", f.Error)
	}
	line(w, "", "%s, %d accepted, %d refused", plural(f.Resources, "resource"), f.Acks, f.Nacks)
	renderNack(w, f.LastNack, now)
}

func renderNack(w io.Writer, n *admin.Nack, now time.Time) {
	if n != nil {
		line(w, "", "last refused %s ago: %s (%s): %s", ago(now, n.Time), n.Resource, short(n.Type), n.Error)
	}
}

// short is the message name of a type URL.
func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '/')+1:] }

func renderFeatures(w io.Writer, features []admin.Feature) {
	var on []string
	for _, f := range features {
		if f.On {
			on = append(on, f.Name)
		}
	}
	line(w, "kernel", "%s", orDash(strings.Join(on, ", ")))
	for _, f := range features {
		if !f.On {
			line(w, "", "without %s: %s", f.Name, f.Reason)
		}
	}
}

// renderMechanisms shows what carries connections, and why others were not. Why
// a mechanism is off stands among the features.
func renderMechanisms(w io.Writer, mechanisms []admin.Mechanism) {
	for _, m := range mechanisms {
		state := "on"
		if !m.On {
			state = "off"
		}
		line(w, "carries", "%s (%s): %s now, %s in all", m.Name, state, plural(int(m.Now), "connection"), number(m.Total))
		for _, c := range m.Left {
			line(w, "", "%s %s: %s", number(c.Count), c.Name, c.Meaning)
		}
	}
}

// passing are the reasons of connections that Heddle served or left alone; all
// others refuse a connection or drop a packet.
var passing = []string{
	"balanced", "affinity", "not_service", "not_enrolled", "own_socket", "protocol", "service_unhooked",
	"bypassed", "bypass_full", "bypass_share", "bypass_late", "bypass_slow",
	"fast_path", "fast_full", "fast_share", "fast_barred", "fast_translated", "fast_untracked", "fast_mtu",
}

func renderReasons(w io.Writer, reasons []admin.Count) {
	var passed, refused []admin.Count
	for _, c := range reasons {
		if slices.Contains(passing, c.Name) {
			passed = append(passed, c)
		} else {
			refused = append(refused, c)
		}
	}
	line(w, "passed", "%s", orDash(counts(passed)))
	line(w, "refused", "%s", orDash(counts(refused)))
}

func renderProblems(w io.Writer, problems []admin.Problem, now time.Time) {
	for _, p := range problems {
		line(w, "problem", "%s: %s (for %s)", p.Object, p.Reason, ago(now, p.Since))
		line(w, "", "%s", p.Detail)
	}
}

// fullest names the maps that are used most, the fullest first.
func fullest(maps []admin.Map) string {
	use := func(m admin.Map) float64 { return float64(m.Entries) / float64(m.MaxEntries) }
	// An array always has all its elements, and storage is not counted.
	filling := slices.DeleteFunc(slices.Clone(maps), func(m admin.Map) bool {
		return strings.Contains(m.Type, "Array") || m.MaxEntries == 0 || m.Entries <= 0
	})
	sorted := slices.SortedStableFunc(slices.Values(filling), func(a, b admin.Map) int {
		switch {
		case use(a) > use(b):
			return -1
		case use(a) < use(b):
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	var parts []string
	for _, m := range sorted[:min(3, len(sorted))] {
		parts = append(parts, fmt.Sprintf("%s %d of %d", m.Name, m.Entries, m.MaxEntries))
	}
	return strings.Join(parts, ", ")
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
