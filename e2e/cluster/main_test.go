package cluster_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"heddle.io/heddle/e2e/cluster"
)

var bin string

func TestMain(m *testing.M) {
	cluster.Main()
	if len(os.Args) > 1 && os.Args[1] == ownerVerb {
		os.Exit(own())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() == 0 { // otherwise every test says that it needs root
		var err error
		if bin, err = cluster.Build(context.Background(), "../..", os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// up brings up a cluster for a test, and shows the ends of its logs when the
// test fails.
func up(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	o.Bin, o.Log = bin, t.Output()
	c, err := cluster.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c)
		}
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func showLogs(t *testing.T, c *cluster.Cluster) {
	entries, err := os.ReadDir(c.Logs())
	if err != nil {
		t.Log(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(c.Logs() + "/" + e.Name())
		if err != nil {
			t.Log(err)
		}
		t.Logf("%s ends with\n%s", e.Name(), b[max(0, len(b)-2000):])
	}
}

// patience bounds every wait of the tests.
const patience = 3 * time.Minute

// eventually repeats try until it succeeds or patience ends.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if t.Context().Err() != nil || time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func kubectl(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
