package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/sandbox"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// from reads JSON as the admin sockets send it.
func from[T any](t *testing.T, name string) T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// TestRender: JSON in, text out.
func TestRender(t *testing.T) {
	services := func() []answer[admin.Service] { return from[[]answer[admin.Service]](t, "services.json") }
	for name, render := range map[string]func(io.Writer){
		"status.txt":    func(w io.Writer) { renderStatus(w, from[*statusReport](t, "status.json"), now) },
		"cluster.txt":   func(w io.Writer) { renderCluster(w, from[*statusReport](t, "cluster.json"), false, now) },
		"routes.txt":    func(w io.Writer) { renderRoutes(w, services()) },
		"service.txt":   func(w io.Writer) { renderService(w, services(), now) },
		"endpoints.txt": func(w io.Writer) { renderEndpoints(w, from[[]answer[admin.Cluster]](t, "clusters.json")) },
		"pods.txt":      func(w io.Writer) { renderPods(w, from[[]answer[admin.Pod]](t, "pods.json")) },
		"pod.txt":       func(w io.Writer) { renderPod(w, from[[]answer[admin.Pod]](t, "pods.json")) },
		"maps.txt":      func(w io.Writer) { renderMaps(w, from[[]answer[admin.Map]](t, "maps.json")) },
		"dump.txt":      func(w io.Writer) { renderDump(w, from[[]answer[admin.MapDump]](t, "dump.json")) },
		"why.txt": func(w io.Writer) {
			q := whyQuestion{namespace: "shop", pod: "client", protocol: "tcp", service: "shop/web"}
			why := from[*whyReport](t, "why.json")
			renderWhy(w, why, q.title(&why.Why))
		},
		"ps.txt": func(w io.Writer) {
			pods := []sandbox.Pod{
				{Namespace: "shop", Name: "web", Node: "node1", Phase: "Running", Ready: true, Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.2")}, Processes: []sandbox.Process{{PID: 7}}},
				{Namespace: "shop", Name: "gone", Node: "node1", Phase: "Running", Ready: true, Processes: []sandbox.Process{{PID: 8}}},
				{Namespace: "shop", Name: "bad", Node: "node2", Phase: "Failed", Reason: "container c ended:\nlong story"},
			}
			renderPs(w, pods, func(p *sandbox.Pod) bool { return p.Name != "gone" })
		},
		"changes.txt": func(w io.Writer) {
			renderChanges(w, []sandbox.Change{
				{Kind: "Namespace", Name: "shop", Action: "created"},
				{Kind: "Pod", Namespace: "shop", Name: "web", Action: "created", Detail: "10.244.1.2 on node1"},
			})
		},
		"hints.txt": func(w io.Writer) { renderHints(w, "bin/heddlectl", true) },
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name, text(render))
		})
	}
}

func text(render func(io.Writer)) string {
	var out strings.Builder
	render(&out)
	return out.String()
}

func TestHealthy(t *testing.T) {
	r := &statusReport{
		Controller: &admin.ControllerStatus{},
		Nodes: []nodeReport{{AgentStatus: admin.AgentStatus{
			Node: "n", Feed: admin.Feed{Connected: true, Synced: true, FromCache: false},
			Reasons: []admin.Count{{Name: "no_endpoint", Count: 7}}, // refusing is not being ill
		}}},
	}
	if c := concerns(r); len(c) > 0 {
		t.Errorf("concerns %v", c)
	}
	r.Nodes[0].Feed.Synced = false
	if c := concerns(r); len(c) != 1 {
		t.Errorf("not synced: concerns %v", c)
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Minute: "1h", 47 * time.Hour: "47h", 49 * time.Hour: "2d", -time.Second: "0s",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%s ago: got %s, want %s", d, got, want)
		}
	}
	if got := ago(now, time.Time{}); got != "never" {
		t.Errorf("the zero time: got %s", got)
	}
}
