package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where the machine's cgroup file systems are.
const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the mount points of the machine's cgroup hierarchies: those
// of v1, and cgroup2 at unified.
func hierarchies() ([]string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil {
		return nil, fmt.Errorf("look at %s: %w", cgroupRoot, err)
	}
	if stat.Type == unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("%s is cgroup2 alone, where these nodes have not been made to run: "+
			"boot with systemd.unified_cgroup_hierarchy=false, or use a machine with both versions", cgroupRoot)
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var all []string
	unified := false
	for _, e := range entries {
		if e.IsDir() { // "cpu,cpuacct" is, "cpu" may be a link to it
			all = append(all, filepath.Join(cgroupRoot, e.Name()))
			unified = unified || e.Name() == "unified"
		}
	}
	if !unified {
		return nil, fmt.Errorf("%s/unified does not exist: mount cgroup2 there", cgroupRoot)
	}
	return all, nil
}

// makeCgroups makes a cgroup of this name in every hierarchy, and returns them.
func makeCgroups(name string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var made []string
	for _, h := range all {
		dir := filepath.Join(h, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return made, fmt.Errorf("make a cgroup: %w", err)
		}
		made = append(made, dir)
		// A cpuset of v1 takes no process before it has CPUs and memory.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			b, err := os.ReadFile(filepath.Join(h, f))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, f), b, 0o644)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "cgroup.clone_children"), []byte("1"), 0o644)
			}
			if err != nil {
				return made, fmt.Errorf("fill a cpuset: %w", err)
			}
		}
	}
	return made, nil
}

// enterCgroups moves this process into cgroups.
func enterCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("move into the node's cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups kills what is left in the cgroups whose name fits the pattern,
// and removes them. A cgroup can go once its last process has ended, which takes
// a moment after it was killed.
func removeCgroups(ctx context.Context, pattern string) error {
	return poll(ctx, time.Minute, 20*time.Millisecond, "the cgroups "+pattern+" to be empty", func() error {
		dirs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", pattern))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			err = errors.Join(err, removeTree(dir))
		}
		return err
	})
}

// removeTree removes a cgroup and those below it, leaves first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
		}
	}
	return unix.Rmdir(dir)
}

// poll repeats try until it succeeds, for a bounded time.
func poll(ctx context.Context, limit, pause time.Duration, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w (%w)", what, err, ctx.Err())
		case <-time.After(pause):
		}
	}
}
