package check

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/kube"
	"heddle.io/heddle/install/rollout"
)

// well is a cluster in which nothing is wrong.
func well() *Facts {
	return &Facts{
		System: "heddle-system", Version: "v0.1.0", Server: "1.37.0",
		Nodes:        []kube.Node{{Name: "a", Kernel: "6.8.0-31-generic", Runtime: "containerd://2.0", OS: "linux", Ready: true}},
		CRDs:         map[string][]string{"tcproutes.gateway.networking.k8s.io": {"v1"}, "tlsroutes.gateway.networking.k8s.io": {"v1"}, "referencegrants.gateway.networking.k8s.io": {"v1", "v1beta1"}},
		SystemLabels: map[string]string{enforce: "privileged"},
		Installed:    rollout.Installed{Controller: "v0.1.0", Agent: "v0.1.0"},
		Controller:   &rollout.Workload{Wanted: 2, Updated: 2, Ready: 2, Seen: true},
		Agent:        &rollout.Workload{Wanted: 1, Updated: 1, Ready: 1, Seen: true},
		Leader:       "heddle-controller-1",
		Controllers:  []Controller{{Pod: "c", Status: &admin.ControllerStatus{}}},
		Agents:       []Agent{{Node: "a", Status: &admin.AgentStatus{Feed: admin.Feed{Connected: true, Synced: true}}}},
	}
}

func TestWell(t *testing.T) {
	for _, l := range append(Before(well()), After(well())...) {
		if l.State != OK || l.Do != "" {
			t.Errorf("%+v", l)
		}
	}
}

// TestWrong: each thing that is wrong has its line, which says what to do, and
// fails exactly when Heddle cannot work with it.
func TestWrong(t *testing.T) {
	for name, c := range map[string]struct {
		wrong func(*Facts)
		check string
		state string
		want  string
	}{
		"unreachable":   {func(f *Facts) { f.ServerErr = errors.New("refused") }, "API server", Fail, "refused"},
		"old server":    {func(f *Facts) { f.Server = "1.29.4" }, "API server", Fail, "too old"},
		"rights":        {func(f *Facts) { f.Denied = []string{"create clusterroles"} }, "rights to install", Fail, "create clusterroles"},
		"old kernel":    {func(f *Facts) { f.Nodes[0].Kernel = "5.14.0-427.el9.x86_64" }, "kernels", Fail, "a (5.14.0-427"},
		"down":          {func(f *Facts) { f.Nodes[0].Ready = false }, "nodes", Warn, "not ready: a"},
		"runtime":       {func(f *Facts) { f.Nodes[0].Runtime = "docker://20" }, "nodes", Warn, "docker"},
		"no nodes":      {func(f *Facts) { f.Nodes = nil }, "nodes", Fail, "none"},
		"no routes":     {func(f *Facts) { f.CRDs = nil }, "Gateway API", Warn, "tcproutes"},
		"old routes":    {func(f *Facts) { f.CRDs["tcproutes.gateway.networking.k8s.io"] = []string{"v1alpha2"} }, "Gateway API", Warn, "v1alpha2"},
		"security":      {func(f *Facts) { f.SystemLabels[enforce] = "baseline" }, "PodSecurity", Fail, "baseline"},
		"mesh":          {func(f *Facts) { f.Meshes = []string{"Istio"} }, "other meshes", Warn, "Istio"},
		"no controller": {func(f *Facts) { f.Controller = nil }, "controller", Fail, "not there"},
		"update":        {func(f *Facts) { f.Agent.Updated = 0 }, "agents", Warn, "0/1 updated"},
		"agents":        {func(f *Facts) { f.Agent.Ready = 0 }, "agents", Fail, "0/1 ready"},
		"nowhere":       {func(f *Facts) { f.Agent.Wanted, f.Agent.Ready, f.Agent.Updated = 0, 0, 0 }, "agents", Fail, "none are wanted"},
		"leader":        {func(f *Facts) { f.Leader = "" }, "leader", Fail, "nobody writes status"},
		"apart":         {func(f *Facts) { f.Installed.Agent = "v0.3.0" }, "versions", Fail, "more than one minor"},
		"heddlectl":     {func(f *Facts) { f.Version = "v0.2.0" }, "versions", Warn, "heddlectl v0.2.0"},
		"cleaning":      {func(f *Facts) { f.Installed.Cleaning = true }, "versions", Fail, "not finished"},
		"cut off":       {func(f *Facts) { f.Agents[0].Status.Feed.Connected = false }, "nodes in sync", Fail, "a: no controller"},
		"refused": {func(f *Facts) {
			f.Agents[0].Status.Feed.LastNack = &admin.Nack{Time: time.Unix(1, 0), Resource: "shop/web", Error: "bad"}
		}, "nodes in sync", Fail, "shop/web"},
		"not programmed": {func(f *Facts) { f.Agents[0].Status.Plan.Error = "no room" }, "nodes in sync", Fail, "no room"},
		"silent":         {func(f *Facts) { f.Agents[0] = Agent{Node: "a", Err: errors.New("gone")} }, "nodes in sync", Fail, "a: gone"},
		"problem": {func(f *Facts) {
			f.Agents[0].Status.Problems = []admin.Problem{{Object: "CNI", Reason: "NotChained", Detail: "why"}}
		}, "problem", Warn, "a: CNI (NotChained): why"},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.wrong(f)
			var found []string
			for _, l := range append(Before(f), After(f)...) {
				if l.State == OK {
					continue
				}
				found = append(found, fmt.Sprintf("%+v", l))
				if l.Do == "" {
					t.Errorf("%+v does not say what to do", l)
				}
				if l.Check == c.check && l.State == c.state && strings.Contains(l.Detail, c.want) {
					return
				}
			}
			t.Errorf("want %s %s %q, have %v", c.state, c.check, c.want, found)
		})
	}
}

// TestProblemsOnce: what many nodes say is one line that names a few of them.
func TestProblemsOnce(t *testing.T) {
	f := well()
	f.Agents = nil
	for i := range 10 {
		f.Agents = append(f.Agents, Agent{Node: fmt.Sprintf("n%d", i), Status: &admin.AgentStatus{
			Feed:     admin.Feed{Connected: true, Synced: true},
			Problems: []admin.Problem{{Object: "TCPRoute a/b", Reason: "R", Detail: "d"}},
		}})
	}
	lines := problems(f)
	if len(lines) != 1 || !strings.HasPrefix(lines[0].Detail, "n0, n1, n2, n3, n4 and 5 more: TCPRoute a/b (R)") {
		t.Errorf("%+v", lines)
	}
}
