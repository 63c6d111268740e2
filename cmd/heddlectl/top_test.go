package main

import (
	"io"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
)

func TestPodRates(t *testing.T) {
	pod := func(name string, netns, bytes uint64) admin.Pod {
		return admin.Pod{Namespace: "shop", Name: name, Netns: netns, Enrolled: true, RxBytes: bytes, RxPackets: bytes / 100, TxBytes: 7, Dropped: bytes / 1000}
	}
	old := []answer[admin.Pod]{{"node1", []admin.Pod{pod("a", 1, 1000), pod("reset", 2, 9000), pod("new netns", 3, 10)}, now}}
	later := []answer[admin.Pod]{
		{"node1", []admin.Pod{pod("a", 1, 9000), pod("reset", 2, 10), pod("new netns", 4, 99999), pod("new", 5, 99999)}, now.Add(2 * time.Second)},
		{"node2", []admin.Pod{pod("a", 1, 99999)}, now}, // did not answer before
	}
	got := podRates(old, later)
	if len(got) != 2 {
		t.Fatalf("got %+v, want pods a and reset of node1", got)
	}
	if a := got[0]; a != (podRate{Node: "node1", Pod: "shop/a", FromBytes: 4000, FromPackets: 40, Dropped: 4}) {
		t.Errorf("a: %+v", a)
	}
	if r := got[1]; r.FromBytes != 0 {
		t.Errorf("a counter that began anew: %+v", r)
	}
}

func TestServiceRates(t *testing.T) {
	service := func(scope string, opened, open, refused uint64) admin.Service {
		return admin.Service{
			Namespace: "shop", Name: "web", Scope: scope, Port: 80, Protocol: "TCP",
			Backends: []admin.Backend{{Backend: "shop/v1:80", Opened: opened, Open: open}, {Backend: "shop/v2:80"}},
			Refused:  []admin.Count{{Name: "no_endpoint", Count: refused}},
		}
	}
	old := []answer[admin.Service]{
		{"node1", []admin.Service{service("", 10, 1, 0), service("lab", 0, 0, 0)}, now},
		{"node2", []admin.Service{service("", 500, 0, 3)}, now},
	}
	later := []answer[admin.Service]{
		{"node1", []admin.Service{service("", 30, 4, 8), service("lab", 6, 1, 0)}, now.Add(2 * time.Second)},
		{"node2", []admin.Service{service("", 500, 0, 3)}, now.Add(time.Second)},
	}
	got := serviceRates(old, later)
	want := serviceRate{Service: "shop/web", Port: "80/tcp", Nodes: 1, Connections: 13, Refused: 4, Open: 5}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRenderTop(t *testing.T) {
	for name, render := range map[string]func(io.Writer){
		"top_pods.txt": func(w io.Writer) {
			renderTopPods(w, &topReport[podRate]{Left: 3, Errors: []string{"node3: no answer"}, Rows: []podRate{
				{Node: "node1", Pod: "shop/client", FromBytes: 1 << 20, ToBytes: 2048, FromPackets: 1200, ToPackets: 4.25, Dropped: 0.5},
				{Node: "node2", Pod: "shop/web"},
			}})
		},
		"top_services.txt": func(w io.Writer) {
			renderTopServices(w, &topReport[serviceRate]{Rows: []serviceRate{{Service: "shop/web", Port: "80/tcp http", Nodes: 2, Connections: 1234.5, Refused: 0.25, Open: 17}}})
		},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, text(render)) })
	}
}
