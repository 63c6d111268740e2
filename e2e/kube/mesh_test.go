package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/e2e/cluster"
)

// patience bounds every wait: long enough for a machine that does other things,
// and never the time that anything should take.
const patience = time.Minute

// A mesh is a cluster with Heddle in it, as one test sees it.
type mesh struct {
	*cluster.Cluster
	t *testing.T
}

// up brings a cluster up and installs Heddle with the flags.
func up(t *testing.T, o cluster.Options, install ...string) *mesh {
	t.Helper()
	m := bare(t, o)
	m.install(install...)
	return m
}

// bare brings a cluster up, and loads the images.
func bare(t *testing.T, o cluster.Options) *mesh {
	t.Helper()
	requireCluster(t)
	o.Bin, o.Log = binaries, os.Stderr
	o.Dir = filepath.Join(t.TempDir(), "cluster")
	c, err := cluster.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{c, t}
	t.Cleanup(func() {
		if t.Failed() {
			m.showState()
		}
		if err := c.Down(); err != nil {
			t.Errorf("take the cluster down: %v", err)
		}
	})
	for _, image := range images {
		m.must(c.LoadImage(t.Context(), image))
	}
	return m
}

func (m *mesh) install(flags ...string) {
	m.t.Helper()
	m.heddlectl("check")
	m.heddlectl(append([]string{"install", "--version=" + version, "--gateway-api-crds", "--timeout=90s"}, flags...)...)
}

// in is the mesh for a subtest.
func (m *mesh) in(t *testing.T) *mesh { return &mesh{m.Cluster, t} }

func (m *mesh) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// try runs kubectl and returns all it says.
func (m *mesh) try(args ...string) (string, error) {
	out, err := m.Kubectl(context.WithoutCancel(m.t.Context()), args...)
	return string(out), err
}

// kubectl runs kubectl, which must succeed.
func (m *mesh) kubectl(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (m *mesh) apply(manifest string) {
	m.t.Helper()
	if out, err := m.tryApply(manifest); err != nil {
		m.t.Fatalf("kubectl apply: %v\n%s\n%s", err, out, manifest)
	}
}

func (m *mesh) tryApply(manifest string) (string, error) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "objects.yaml")
	m.must(os.WriteFile(file, []byte(manifest), 0o600))
	return m.try("apply", "--server-side", "--force-conflicts", "-f", file)
}

// ctl runs heddlectl as admin of the cluster. What it returns is for the test
// to judge.
func (m *mesh) ctl(args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), 3*time.Minute)
	defer cancel()
	args = append(args, "--kubeconfig="+m.Kubeconfig())
	out, err := m.Run(ctx, filepath.Join(bin, "heddlectl"), args...)
	return string(out), err
}

// heddlectl runs heddlectl, which must end with 0.
func (m *mesh) heddlectl(args ...string) string {
	m.t.Helper()
	out, err := m.ctl(args...)
	if err != nil {
		m.t.Fatalf("heddlectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// showState says what can be known of a mesh after a failure.
func (m *mesh) showState() {
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "tcproutes.gateway.networking.k8s.io", "-A", "-o", "yaml"},
		{"get", "events", "-A", "--field-selector=type!=Normal"},
		{"logs", "-n", system, "-l", "app.kubernetes.io/component=controller", "--tail=30", "--prefix"},
		{"logs", "-n", system, "-l", "app.kubernetes.io/component=agent", "--tail=30", "--prefix"},
	} {
		out, err := m.try(args...)
		if len(out) > 6000 {
			out = out[:6000] + "…"
		}
		m.t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	out, err := m.ctl("status")
	m.t.Logf("heddlectl status: %v\n%s", err, out)
}

// eventually waits until check has no complaint.
func (m *mesh) eventually(what string, check func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			m.t.Fatalf("%s: %v", what, err)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// shop makes the servers of shop.yaml and a route with these weights, and waits
// until clients of both nodes are served by it.
func (m *mesh) shop(v1, v2 int) {
	m.t.Helper()
	text, err := os.ReadFile("shop.yaml")
	m.must(err)
	m.apply(strings.ReplaceAll(string(text), "PEER", peerImage))
	m.kubectl("rollout", "status", "-n", "shop", "deployment/v1", "--timeout=60s")
	m.kubectl("rollout", "status", "-n", "shop", "deployment/v2", "--timeout=60s")
	m.route(v1, v2)
}

// route sets the weights, and waits for the status that says they are in force.
func (m *mesh) route(v1, v2 int) {
	m.t.Helper()
	m.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - backendRefs:
    - {name: v1, port: 80, weight: %d}
    - {name: v2, port: 80, weight: %d}
`, v1, v2))
	m.eventually("route shop/canary is programmed", func() error { return m.condition("tcproutes", "canary", "Programmed", "True") })
}

// condition checks a condition of the first parent of a route, for its present
// generation.
func (m *mesh) condition(kind, name, condition, want string) error {
	out, err := m.try("get", kind+".gateway.networking.k8s.io", "-n", "shop", name, "-o", "json")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var route struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Parents []struct {
				Conditions []struct {
					Type, Status, Reason, Message string
					ObservedGeneration            int64
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &route); err != nil {
		return err
	}
	for _, p := range route.Status.Parents {
		for _, c := range p.Conditions {
			if c.Type == condition && c.Status == want && c.ObservedGeneration == route.Metadata.Generation {
				return nil
			}
		}
	}
	return fmt.Errorf("generation %d: %+v", route.Metadata.Generation, route.Status.Parents)
}

// addresses are the cluster IPs of a Service of shop.
func (m *mesh) addresses(service string) []string {
	m.t.Helper()
	return strings.Fields(m.kubectl("get", "service", "-n", "shop", service, "-o", "jsonpath={.spec.clusterIPs[*]}"))
}

// field reads something of an object with a JSON path.
func (m *mesh) field(path string, args ...string) string {
	m.t.Helper()
	return m.kubectl(append(slices.Concat([]string{"get"}, args), "-o", "jsonpath="+path)...)
}

// exitCode is that of a command which ran; -1: it did not.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// enrolled counts the agents that have a pod of shop in the mesh: 1 or 0.
func (m *mesh) enrolled(pod string) (int, error) {
	out, err := m.ctl("get", "pods", "-o", "json")
	if err != nil {
		return -1, fmt.Errorf("%w: %s", err, out)
	}
	var nodes []struct {
		Items []struct {
			Namespace, Name string
			Enrolled        bool
		}
	}
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		return -1, fmt.Errorf("%w in %s", err, out)
	}
	count := 0
	for _, n := range nodes {
		for _, p := range n.Items {
			if p.Namespace == "shop" && p.Name == pod && p.Enrolled {
				count++
			}
		}
	}
	return count, nil
}
