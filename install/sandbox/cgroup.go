package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup2Mount is where the cgroup2 hierarchy is mounted: /sys/fs/cgroup, or
// /sys/fs/cgroup/unified on a machine that still has version 1.
func cgroup2Mount() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look for cgroup2: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// "36 35 98:0 /root /mount options tag… - fstype source options"
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if ok && len(fields) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup (on a machine with version 1: /sys/fs/cgroup/unified)")
}

func makeCgroup(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w (is cgroup2 mounted read-only, as in an unprivileged container?)", err)
	}
	return nil
}

// subtree lists a cgroup and those below it, deepest first.
func subtree(root string) []string {
	var dirs []string
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what vanished while we looked needs no attention
	})
	slices.Reverse(dirs)
	return dirs
}

// members are the processes of a cgroup and those below it.
func members(root string) []int {
	var pids []int
	for _, dir := range subtree(root) {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// signalMembers sends a signal to every process of a cgroup. A pid may be
// recycled between being listed and being signalled: the process is held by a
// pidfd and looked at again before.
func signalMembers(root string, sig unix.Signal) {
	for _, pid := range members(root) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if slices.Contains(members(root), pid) {
			_ = unix.PidfdSendSignal(fd, sig, nil, 0) // it may have just ended
		}
		unix.Close(fd)
	}
}

// killLimit bounds how long killed processes, and their cgroups, may take to be
// gone: a machine with other work to do is not in a hurry.
const killLimit = time.Minute

// emptyCgroup ends every process of a cgroup: asked first, then killed.
func emptyCgroup(ctx context.Context, root string, grace time.Duration) error {
	if len(members(root)) == 0 {
		return nil
	}
	signalMembers(root, unix.SIGTERM)
	if waitEmpty(ctx, root, grace) {
		return nil
	}
	// cgroup.kill (5.14) also gets those that fork meanwhile.
	if os.WriteFile(filepath.Join(root, "cgroup.kill"), []byte("1"), 0) != nil {
		signalMembers(root, unix.SIGKILL)
	}
	if !waitEmpty(ctx, root, killLimit) {
		return fmt.Errorf("processes %v of cgroup %s do not end, even killed: see their state in /proc/PID/status", members(root), root)
	}
	return nil
}

func waitEmpty(ctx context.Context, root string, limit time.Duration) bool {
	return poll(ctx, limit, 5*time.Millisecond, func() bool { return len(members(root)) == 0 }) == nil
}

// removeCgroup removes a cgroup without processes, and those below it. A
// cgroup stays busy for a moment after its last process was reaped.
func removeCgroup(ctx context.Context, root string) error {
	var last error
	err := poll(ctx, killLimit, 10*time.Millisecond, func() bool {
		last = nil
		for _, dir := range subtree(root) {
			if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
				last = err
			}
		}
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", root, last)
	}
	return nil
}

// cpuTime is what the processes of a cgroup and those below it, also the ended
// ones, have used.
func cpuTime(cgroup string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(cgroup, "cpu.stat"))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of a cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat has no usage_usec", cgroup)
}

// poll asks until the answer is yes, the limit has passed or the context ends.
func poll(ctx context.Context, limit, every time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
