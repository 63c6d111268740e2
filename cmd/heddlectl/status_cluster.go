package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

// replicaReport is one of the controllers of a cluster.
type replicaReport struct {
	Pod     string `json:"pod"`
	Version string `json:"version,omitempty"`
	Nodes   int    `json:"nodes"`
	Leads   bool   `json:"leads,omitempty"` // it writes the status of objects
	Error   string `json:"error,omitempty"` // why it could not be asked
}

// absent is a node of a cluster that nothing is known of.
type absent struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

func (a absent) concern() string { return a.Node + ": " + a.Reason }

// fewNodes all have a row without --all.
const fewNodes = 12

// askControllers asks every replica. Nodes are spread over them, so that only
// all together know every node.
func (r *statusReport) askControllers(ctx context.Context, t *targets) {
	answers := make([]*admin.ControllerStatus, len(t.controllers))
	errs := make([]error, len(t.controllers))
	each(len(t.controllers), func(i int) {
		c := t.controllers[i]
		if c.down != "" {
			errs[i] = &client.Unreachable{Who: "the controller", Where: c.Where(), Err: errors.New(c.down)}
			return
		}
		answers[i], errs[i] = c.Status(ctx)
	})
	leader := ""
	if t.cluster != nil {
		r.Replicas = []replicaReport{}
		leader, _ = t.cluster.Leader(ctx) // whoever may not read leases can do without
	}
	for i, c := range t.controllers {
		report := replicaReport{Pod: c.pod, Leads: c.pod != "" && c.pod == leader}
		if errs[i] != nil {
			report.Error = errs[i].Error()
			r.Errors = append(r.Errors, report.Error)
		} else {
			report.Version, report.Nodes = answers[i].Version, len(answers[i].Nodes)
			if report.Leads { // its word counts where they differ
				r.Controller = together(answers[i], orNone(r.Controller))
			} else {
				r.Controller = together(r.Controller, answers[i])
			}
		}
		if t.cluster != nil {
			r.Replicas = append(r.Replicas, report)
		}
	}
}

func orNone(c *admin.ControllerStatus) *admin.ControllerStatus {
	if c == nil {
		return &admin.ControllerStatus{}
	}
	return c
}

// together adds what another replica says. A node that moved from one to the
// other in between is counted where it came last.
func together(all, one *admin.ControllerStatus) *admin.ControllerStatus {
	if all == nil {
		return one
	}
	sum := *all
	nodes := map[string]admin.ConnectedNode{}
	for _, n := range slices.Concat(all.Nodes, one.Nodes) {
		if known, ok := nodes[n.Node]; !ok || n.Connected.After(known.Connected) {
			nodes[n.Node] = n
		}
	}
	sum.Nodes = nil
	for _, n := range nodes {
		sum.Nodes = append(sum.Nodes, n)
	}
	slices.SortFunc(sum.Nodes, func(a, b admin.ConnectedNode) int { return cmp.Compare(a.Node, b.Node) })
	sum.Problems = slices.Clone(all.Problems)
	for _, p := range one.Problems {
		known := slices.ContainsFunc(sum.Problems, func(q admin.Problem) bool {
			return p.Object == q.Object && p.Reason == q.Reason
		})
		if !known {
			sum.Problems = append(sum.Problems, p)
		}
	}
	sum.Source.Error = cmp.Or(all.Source.Error, one.Source.Error)
	return &sum
}

// findUncovered lists the nodes of the cluster that have no agent at all.
func (r *statusReport) findUncovered(ctx context.Context, t *targets) {
	nodes, err := t.cluster.Nodes(ctx)
	if err != nil {
		r.Unlisted = err.Error()
		r.Errors = append(r.Errors, r.Unlisted)
		return
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(t.agents, func(a target) bool { return a.node == n.Name }) {
			r.Absent = append(r.Absent, absent{n.Name, "no agent: pods there are not in the mesh"})
		}
	}
}

// compare finds the agents that are behind what the controllers sent them. The
// two were not asked at the same instant: a change on its way shows as well.
func (r *statusReport) compare() {
	if r.Controller == nil {
		return
	}
	sent := map[string]*admin.ConnectedNode{}
	for i := range r.Controller.Nodes {
		sent[r.Controller.Nodes[i].Node] = &r.Controller.Nodes[i]
	}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if to := sent[n.Node]; to != nil && to.Resources != n.Feed.Resources {
			n.Lag = fmt.Sprintf("has %d of %s", n.Feed.Resources, plural(to.Resources, "resource"))
		}
	}
}

// maxRows bounds what is shown of a large cluster without --all.
const maxRows = 40

// renderCluster shows the controllers and a row for each node.
func renderCluster(w io.Writer, r *statusReport, all bool, now time.Time) {
	renderReplicas(w, r, now)
	few := len(r.Nodes)+len(r.Absent) <= fewNodes
	rows := &table{indent: "  "}
	rows.row("NODE", "AGENT", "KERNEL", "CARRIED BY", "PODS", "RESOURCES", "LAST CHANGE", "REFUSED", "STATE")
	ill := 0
	for i := range r.Nodes {
		n := &r.Nodes[i]
		bad := len(nodeConcerns(n)) > 0
		if bad {
			ill++
		}
		if bad || all || few {
			rows.row(n.Node, n.Version, n.Kernel, carriers(n.Mechanisms), fmt.Sprint(n.Pods), fmt.Sprint(n.Feed.Resources), since(now, n.Plan.Applied), number(n.Feed.Nacks), nodeState(n, now))
		}
	}
	for _, n := range r.Absent {
		rows.row(n.Node, "-", "-", "-", "-", "-", "-", "-", n.Reason)
	}
	fmt.Fprintf(w, "nodes       %d: %d well, %d with problems, %d without an answer; agents: %s\n", len(r.Nodes)+len(r.Absent), len(r.Nodes)-ill, ill, len(r.Absent), orDash(versions(r.Nodes)))
	more := 0
	if !all {
		more = max(len(rows.rows)-1-maxRows, 0)
		rows.rows = rows.rows[:len(rows.rows)-more]
	}
	if len(rows.rows) > 1 {
		fmt.Fprintln(w)
		rows.write(w)
	}
	if more > 0 {
		fmt.Fprintf(w, "  and %d more (--all)\n", more)
	}
	fmt.Fprintln(w)
	renderVerdict(w, r, all)
}

// renderVerdict says what needs attention and has no row.
func renderVerdict(w io.Writer, r *statusReport, all bool) {
	if r.Healthy {
		fmt.Fprintln(w, "healthy")
		return
	}
	var lines []string
	for _, c := range concerns(r) {
		if !slices.ContainsFunc(r.Absent, func(a absent) bool { return c == a.concern() }) {
			lines = append(lines, "attention: "+c)
		}
	}
	for _, replica := range r.Replicas {
		if replica.Error != "" {
			lines = append(lines, "unreachable: "+replica.Error)
		}
	}
	if r.Unlisted != "" {
		lines = append(lines, "unreachable: "+r.Unlisted)
	}
	if more := len(lines) - maxRows; more > 0 && !all {
		lines = append(lines[:maxRows], fmt.Sprintf("and %d more (--all)", more))
	}
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}

func renderReplicas(w io.Writer, r *statusReport, now time.Time) {
	if len(r.Replicas) == 0 {
		fmt.Fprint(w, "controller  none: nodes keep what they have, nothing new reaches them\n\n")
		return
	}
	if c := r.Controller; c == nil {
		fmt.Fprintf(w, "controller  %s, none answers\n", plural(len(r.Replicas), "replica"))
	} else {
		fmt.Fprintf(w, "controller  %s, %s, up %s\n", plural(len(r.Replicas), "replica"), c.Version, ago(now, c.Started))
		line(w, "source", "%s", strings.TrimSuffix(c.Source.Kind+":"+c.Source.Path, ":"))
		if c.Source.Error != "" {
			line(w, "", "cannot be read: %s", c.Source.Error)
			line(w, "", "the last good objects are in force")
		}
		line(w, "objects", "%s", orDash(counts(c.Objects)))
	}
	for _, replica := range r.Replicas {
		if replica.Error != "" {
			line(w, "replica", "%s: no answer", replica.Pod)
			continue
		}
		leads := ""
		if replica.Leads {
			leads = ", leads"
		}
		line(w, "replica", "%s: %s, %s connected%s", replica.Pod, replica.Version, plural(replica.Nodes, "node"), leads)
	}
	if r.Controller != nil {
		renderProblems(w, r.Controller.Problems, now)
	}
	fmt.Fprintln(w)
}

// nodeState is the first thing to know of a node.
func nodeState(n *nodeReport, now time.Time) string {
	switch {
	case !n.Feed.Connected:
		return fmt.Sprintf("not connected for %s: %s", ago(now, n.Feed.Since), cmp.Or(n.Feed.Error, "-"))
	case !n.Feed.Synced:
		return "not synced yet"
	case n.Plan.Error != "":
		return "not applied: " + n.Plan.Error
	case len(n.Problems) > 0:
		p := n.Problems[0]
		return fmt.Sprintf("%s: %s", p.Object, p.Reason)
	case n.Lag != "":
		return n.Lag
	}
	return "in sync"
}

// carriers are the mechanisms that new connections may use.
func carriers(mechanisms []admin.Mechanism) string {
	var on []string
	for _, m := range mechanisms {
		if m.On {
			on = append(on, m.Name)
		}
	}
	return orDash(strings.Join(on, ","))
}

// versions counts the agents of each version.
func versions(nodes []nodeReport) string {
	count := map[string]int{}
	for _, n := range nodes {
		count[n.Version]++
	}
	var parts []string
	for v, n := range count {
		parts = append(parts, fmt.Sprintf("%d x %s", n, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func since(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return ago(now, then) + " ago"
}
