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
// and never the time that anything should take. What comes soon costs nothing.
const patience = 4 * time.Minute

// A mesh is a cluster with Heddle in it, as one test sees it.
type mesh struct {
	*cluster.Cluster
	t test
}

// up brings a cluster up and installs Heddle with the flags.
func up(t *testing.T, o cluster.Options, install ...string) *mesh {
	t.Helper()
	m := bare(t, o)
	m.install(install...)
	return m
}

// bare brings a cluster up, and loads the images.
func bare(of *testing.T, o cluster.Options) *mesh {
	of.Helper()
	requireCluster(of)
	t := test{of}
	o.Bin, o.Log = binaries, os.Stderr
	o.Dir = filepath.Join(t.TempDir(), "cluster")
	c, err := cluster.Up(t.Context(), o)
	if err != nil {
		t.Fatalf("bring up a cluster: %v", err)
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
	m.heddlectl(append([]string{"install", "--version=" + version, "--gateway-api-crds", "--timeout=" + patience.String()}, flags...)...)
}

// in is the mesh for a subtest.
func (m *mesh) in(t *testing.T) *mesh { return &mesh{m.Cluster, test{t}} }

func (m *mesh) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%v", err)
	}
}

// bounded is the context of a command that ends by itself, and of one that does
// not. It outlives the test, for what is done at its end.
func (m *mesh) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(m.t.Context()), 3*patience)
}

// try runs kubectl and returns all it says.
func (m *mesh) try(args ...string) (string, error) {
	ctx, cancel := m.bounded()
	defer cancel()
	return m.Kubectl(ctx, args...)
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
	ctx, cancel := m.bounded()
	defer cancel()
	args = append(args, "--kubeconfig="+m.Kubeconfig())
	return m.Run(ctx, filepath.Join(bin, "heddlectl"), args...)
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
			m.t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// await waits for a condition of objects of namespace shop, as kubectl wait has it.
func (m *mesh) await(condition string, objects ...string) {
	m.t.Helper()
	m.kubectl(slices.Concat([]string{"wait", "-n", "shop", "--for=" + condition, "--timeout=" + patience.String()}, objects)...)
}

// rolledOut waits for the end of a rollout.
func (m *mesh) rolledOut(namespace, workload string) {
	m.t.Helper()
	m.kubectl("rollout", "status", "-n", namespace, workload, "--timeout="+patience.String())
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
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
