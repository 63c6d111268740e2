package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func TestWorldHasDistinctAddresses(t *testing.T) {
	w, err := newWorld(10_000, 10)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[netip.Addr]bool)
	take := func(a netip.Addr) {
		if bytes := a.As4(); seen[a] || bytes[3] == 0 {
			t.Fatalf("address %s", a)
		}
		seen[a] = true
	}
	for _, s := range w.services {
		for _, e := range s.endpoints {
			take(e.address)
		}
	}
	for range 1000 {
		take(w.newEndpoint().address)
	}
}

// Every file is YAML, with the services and endpoints that were asked for.
func TestWorldFiles(t *testing.T) {
	w, err := newWorld(200, 3)
	if err != nil {
		t.Fatal(err)
	}
	kinds, endpoints, clusterIPs := map[string]int{}, 0, map[string]bool{}
	for name, text := range w.files() {
		for _, document := range strings.Split(text, "---\n") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			var object struct {
				Kind      string
				Endpoints []any
				Spec      struct{ ClusterIP string }
			}
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			kinds[object.Kind]++
			endpoints += len(object.Endpoints)
			if ip := object.Spec.ClusterIP; ip != "" {
				clusterIPs[ip] = true
			}
		}
	}
	if kinds["Service"] != 200 || kinds["EndpointSlice"] != 200 || kinds["TCPRoute"] != 2 || endpoints != 600 || len(clusterIPs) != 200 {
		t.Errorf("kinds %v, %d endpoints, %d cluster IPs", kinds, endpoints, len(clusterIPs))
	}
}

func TestWorldBounds(t *testing.T) {
	for _, c := range []struct{ services, endpoints int }{{0, 10}, {150, 10}, {100, 1}, {100, 1000}, {50_000, 10}, {100_000, 2}} {
		if _, err := newWorld(c.services, c.endpoints); err == nil {
			t.Errorf("%v was taken", c)
		}
	}
}

// A round makes one change of each kind, of one file each, and leaves as many
// endpoints as there were.
func TestRound(t *testing.T) {
	w, err := newWorld(200, 3)
	if err != nil {
		t.Fatal(err)
	}
	before := w.files()
	for n := range 5 {
		edits := w.round(n)
		if len(edits) != len(kinds) {
			t.Fatalf("%d changes", len(edits))
		}
		for i, e := range edits {
			if e.kind != kinds[i] || before[e.file] == "" || before[e.file] == e.text {
				t.Errorf("round %d, %s: file %s changes nothing", n, e.kind, e.file)
			}
			before[e.file] = e.text
		}
	}
	for name, text := range w.files() {
		if before[name] != text {
			t.Errorf("file %s is not what the changes left", name)
		}
	}
	if got := strings.Count(strings.Join(sorted(before), ""), "- addresses:"); got != 600 {
		t.Errorf("%d endpoints after the rounds", got)
	}
}

func sorted(files map[string]string) (texts []string) {
	for _, text := range files {
		texts = append(texts, text)
	}
	return texts
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, "-"},
		{[]float64{2}, "2.0 s"},
		{[]float64{3, 1, 2}, "2.0 s (1.0–3.0)"},
		{[]float64{4, 1, 2, 3}, "2.5 s (1.0–4.0)"},
		{[]float64{1, 1.001}, "1.0 s"},
	} {
		if got := spread(c.values, 1, 1, "s"); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
}

func TestField(t *testing.T) {
	text := "usage_usec 1500\nuser_usec 7\nVmRSS:\t  12 kB\ngo_memstats_heap_inuse_bytes 1.5e+06\n"
	for name, want := range map[string]uint64{"usage_usec": 1500, "VmRSS:": 12, "go_memstats_heap_inuse_bytes": 1_500_000} {
		if got, err := field(text, name); err != nil || got != want {
			t.Errorf("%s: %d, error %v", name, got, err)
		}
	}
	if _, err := field(text, "usage"); err == nil {
		t.Error("a name that is not there was found")
	}
}

func TestCgroupDir(t *testing.T) {
	mounts := "25 30 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	got, err := cgroupDir("1:cpu:/\n0::/x/y\n", mounts)
	if err != nil || got != "/sys/fs/cgroup/unified/x/y" {
		t.Errorf("%q, error %v", got, err)
	}
	if _, err := cgroupDir("1:cpu:/\n", mounts); err == nil {
		t.Error("no cgroup2, but no error")
	}
}

// The report shows a change that reached a node that does not need it.
func TestReport(t *testing.T) {
	w, err := newWorld(200, 3)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(options{services: 200, endpoints: 3}, w)
	r.Date = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	r.Colds = []Cold{{Wall: 1, CPU: Usage{Controller: 2, Agent: 0.5}}, {Wall: 3, CPU: Usage{Controller: 2, Agent: 0.7}}}
	r.Memory.Agent.RSS = 70e6
	r.Changes = []Change{{Kind: added, Wall: 0.01, Ops: 2}, {Kind: added, Wall: 0.03, Ops: 2, BystanderBytes: 5}}
	text := r.markdown()
	for _, want := range []string{"2026-01-02 03:04 UTC", "2.00 s (1.00–3.00)", "0.60 s (0.50–0.70)", "| agent, RSS | 70.0 |",
		"| endpoint added | 20.0 (10.0–30.0) |", "| 0, 0, 2 (0–5) |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
