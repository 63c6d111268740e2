package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/e2e/cluster"
)

func TestMain(m *testing.M) {
	cluster.Main()
	os.Exit(m.Run())
}

// TestSmall measures a small cluster. How long things take is for the program; this
// is about who is told, and how often.
func TestSmall(t *testing.T) {
	nettest.RequireRoot(t)
	const root = "../../.."
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "./cmd/heddle-controller")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := options{
		root: root, bin: bin, changes: 10, every: 50 * time.Millisecond, idle: time.Second, out: t.TempDir(),
		shape: shape{Nodes: 5, MeshNodes: 3, Services: 20, PodsOf: 3, Rollout: 10},
	}
	r := newReport(o)
	if err := measure(t.Context(), o, r); err != nil {
		t.Fatal(err)
	}
	text := r.markdown()
	t.Log(text)
	for name, s := range map[string]Span{"idle": r.Idle, "changes": r.Changes.Span, "rollout": r.Rollout.Span} {
		if s.OtherResponses != 0 || s.OtherBytes != 0 {
			t.Errorf("%s: nodes without pods of the mesh got %d responses with %d bytes", name, s.OtherResponses, s.OtherBytes)
		}
	}
	if r.Idle.Responses != 0 {
		t.Errorf("without a change a node got %.0f responses", r.Idle.Responses)
	}
	if c := r.Changes; c.Encoded != uint64(c.Count) || c.Bytes == 0 {
		t.Errorf("%d changes had %d resources encoded and %.0f bytes sent to a node", c.Count, c.Encoded, c.Bytes)
	}
	if o := r.Rollout; o.Batches == 0 || o.Batches >= uint64(o.Pods) {
		t.Errorf("%d pods were rolled out in %d batches", o.Pods, o.Batches)
	}
	for _, q := range r.Requests {
		if q.Verb == "list" && q.Count > 2 || q.Verb == "watch" && q.Count > 3 {
			t.Errorf("the controller asked to %s %s %d times", q.Verb, q.Resource, q.Count)
		}
	}
	if len(r.Requests) == 0 {
		t.Error("the audit log has no request of the controller")
	}
	if err := r.save(o.out, text); err != nil {
		t.Error(err)
	}
	if files, err := filepath.Glob(o.out + "/kube-*"); err != nil || len(files) != 2 {
		t.Errorf("files of the report: %v (%v)", files, err)
	}
}

func TestWorld(t *testing.T) {
	w := &world{shape: shape{Nodes: 30, MeshNodes: 20, Services: 200, PodsOf: 5, Rollout: 100}}
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	mesh, other := map[string]bool{}, map[string]bool{}
	for i := range w.Services {
		for j := range w.PodsOf {
			if w.inMesh(i) {
				mesh[w.node(i, j)] = true
			} else {
				other[w.node(i, j)] = true
			}
		}
	}
	for node := range mesh {
		if other[node] {
			t.Errorf("%s has pods in and out of the mesh", node)
		}
	}
	if len(mesh) != w.MeshNodes || len(other) != w.Nodes-w.MeshNodes {
		t.Errorf("%d nodes with pods of the mesh, %d without", len(mesh), len(other))
	}
	seen := map[int]bool{}
	for n := range w.Rollout {
		if i := w.rolled(n); !w.inMesh(i) || i >= w.Services || seen[i] {
			t.Errorf("rolls out service %d", i)
		} else {
			seen[i] = true
		}
	}
	changed := map[int]bool{}
	for n := range 150 {
		changed[w.changed(n)] = true
	}
	if len(changed) != 150 {
		t.Errorf("150 changes are of %d services", len(changed))
	}
}

func TestQuantile(t *testing.T) {
	all := []float64{4, 1, 3, 2}
	for share, want := range map[float64]float64{0: 1, .5: 2, .99: 4, 1: 4} {
		if got := quantile(all, share); got != want {
			t.Errorf("%v: %v, want %v", share, got, want)
		}
	}
}

func TestCPUOf(t *testing.T) {
	got, err := cpuOf([]byte("7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1 2 3"))
	if err != nil || got != 3 {
		t.Errorf("%v, error %v", got, err)
	}
	if _, err := cpuOf([]byte("7 (a) S 1")); err == nil {
		t.Error("half a line was taken")
	}
}

// The report shows what a node got that needs nothing.
func TestReport(t *testing.T) {
	r := newReport(options{shape: shape{Nodes: 3, MeshNodes: 2, Services: 20, PodsOf: 2}})
	r.Changes = Changes{Span: Span{OtherBytes: 7, CPU: 0.5}, Count: 100, FromAnswer: []float64{.1, .2, .3}}
	text := r.markdown()
	for _, want := range []string{"0, 0, 7", "5.00 ms", "200.0, **300.0**, 300.0 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
