package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
)

func TestTogether(t *testing.T) {
	node := func(name string, minute, resources int) admin.ConnectedNode {
		return admin.ConnectedNode{Node: name, Connected: now.Add(time.Duration(minute) * time.Minute), Resources: resources}
	}
	problem := func(object string) admin.Problem { return admin.Problem{Object: object, Reason: "BackendNotFound"} }
	leader := &admin.ControllerStatus{Version: "v2", Nodes: []admin.ConnectedNode{node("a", 0, 1), node("c", 0, 1)}, Problems: []admin.Problem{problem("x")}}
	other := &admin.ControllerStatus{Version: "v1", Nodes: []admin.ConnectedNode{node("b", 0, 1), node("a", 1, 9)}, Problems: []admin.Problem{problem("x"), problem("y")}, Source: admin.Source{Error: "no API server"}}
	got := together(leader, other)
	var nodes []string
	for _, n := range got.Nodes {
		nodes = append(nodes, fmt.Sprint(n.Node, n.Resources))
	}
	if want := "[a9 b1 c1]"; fmt.Sprint(nodes) != want {
		t.Errorf("nodes %v, want %s: a moved to the other replica", nodes, want)
	}
	if got.Version != "v2" || len(got.Problems) != 2 || got.Source.Error == "" {
		t.Errorf("got %+v", got)
	}
	if len(leader.Nodes) != 2 || len(leader.Problems) != 1 {
		t.Errorf("what was asked is changed: %+v", leader)
	}
}

func TestCompare(t *testing.T) {
	agent := func(name string, resources int) nodeReport {
		return nodeReport{AgentStatus: admin.AgentStatus{Node: name, Feed: admin.Feed{Resources: resources}}}
	}
	r := &statusReport{
		Controller: &admin.ControllerStatus{Nodes: []admin.ConnectedNode{{Node: "even", Resources: 5}, {Node: "behind", Resources: 5}}},
		Nodes:      []nodeReport{agent("even", 5), agent("behind", 4), agent("unknown", 4)},
	}
	r.compare()
	if r.Nodes[0].Lag != "" || r.Nodes[1].Lag != "has 4 of 5 resources" || r.Nodes[2].Lag != "" {
		t.Errorf("lags %q, %q, %q", r.Nodes[0].Lag, r.Nodes[1].Lag, r.Nodes[2].Lag)
	}
}

// A large cluster stays readable: the well have no row, the ill are cut.
func TestLargeCluster(t *testing.T) {
	r := &statusReport{Replicas: []replicaReport{}}
	for i := range 300 {
		r.Nodes = append(r.Nodes, nodeReport{AgentStatus: admin.AgentStatus{
			Node: fmt.Sprintf("node%d", i), Feed: admin.Feed{Connected: i != 7, Synced: true},
		}})
	}
	lines := func(all bool) int {
		return strings.Count(text(func(w io.Writer) { renderCluster(w, r, all, now) }), "\n")
	}
	if n := lines(false); n > 12 {
		t.Errorf("%d lines for 300 nodes of which one is ill", n)
	}
	if n := lines(true); n < 300 {
		t.Errorf("%d lines with --all", n)
	}
	for i := range 300 {
		r.Absent = append(r.Absent, absent{fmt.Sprint("gone", i), "no agent: pods there are not in the mesh"})
	}
	if n := lines(false); n > maxRows+20 {
		t.Errorf("%d lines when all are ill", n)
	}
}
