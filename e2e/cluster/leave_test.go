package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/e2e/cluster"
)

// ownerVerb makes this test binary bring up a cluster and wait to be killed.
const ownerVerb = "own-a-cluster"

func own() int {
	c, err := cluster.Up(context.Background(), cluster.Options{Bin: os.Args[2], Name: os.Args[3], Nodes: 1})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(c.Dir())
	select {}
}

func TestDownLeavesNothing(t *testing.T) {
	nettest.RequireRoot(t)
	name := "heddle-down-" + strconv.Itoa(os.Getpid())
	c, err := cluster.Up(t.Context(), cluster.Options{Bin: bin, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	dir := c.Dir()
	if len(left(t, name, dir)) == 0 {
		t.Error("nothing of a running cluster is found, so this test would find nothing of a dead one either")
	}
	if _, err := cluster.Up(t.Context(), cluster.Options{Bin: bin, Name: name}); err == nil || !strings.Contains(err.Error(), "is up") {
		t.Errorf("a second cluster of the same name: %v", err)
	}
	if err := c.Down(); err != nil {
		t.Error(err)
	}
	if rest := left(t, name, dir); len(rest) > 0 {
		t.Errorf("left behind: %q", rest)
	}
}

// TestKillLeavesNothing kills the process that a cluster belongs to. With its
// janitor killed too, the next cluster has to clean up.
func TestKillLeavesNothing(t *testing.T) {
	nettest.RequireRoot(t)
	for _, janitorToo := range []bool{false, true} {
		name := fmt.Sprintf("heddle-kill-%d-%t", os.Getpid(), janitorToo)
		owner := exec.Command("/proc/self/exe", ownerVerb, bin, name)
		out, err := owner.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || strings.HasPrefix(lines.Text(), "error") {
			t.Fatalf("the owner of a cluster says %q", lines.Text())
		}
		dir := lines.Text()
		if janitorToo {
			if err := unix.Kill(janitor(t, owner.Process.Pid), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if err := owner.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = owner.Wait() // it was killed
		eventually(t, "everything to be gone", func() error {
			if janitorToo {
				if err := cluster.Sweep(); err != nil {
					return err
				}
			}
			if rest := left(t, name, dir); len(rest) > 0 {
				return fmt.Errorf("left behind: %q", rest)
			}
			return nil
		})
	}
}

// janitor is the child of a cluster's owner that outlives it.
func janitor(t *testing.T, owner int) int {
	t.Helper()
	pids, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range pids {
		b, err := os.ReadFile(f)
		if err != nil || !strings.HasPrefix(string(b), "heddle-cluster-janitor\x00") {
			continue
		}
		status, err := os.ReadFile(filepath.Dir(f) + "/status")
		if err == nil && strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", owner)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("process %d has no janitor", owner)
	return 0
}

// left lists what is there of a cluster: cgroups, its directory, its entry, and
// processes that name the directory, which all but those of pods do.
func left(t *testing.T, name, dir string) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name + "*", "/sys/fs/cgroup/" + name + "*", dir, "/run/heddle-e2e/" + name} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range processes {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), dir) { // an error is a process that has ended
			all = append(all, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return all
}
