package procs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process of a pod.
type Process struct {
	PID     int
	Started time.Time
}

// ticks is how many of them /proc counts in a second, on every architecture
// that Heddle runs on.
const ticks = 100

// Scan returns, for every pod that has processes, the one that was started
// first: the sandbox's own, which is sure to be in the pod's network namespace.
func Scan() (map[string]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("looking for the processes of pods: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("looking for the processes of pods: %w", err)
	}
	found := map[string]Process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cgroups, err := os.ReadFile(file(pid, "cgroup"))
		if err != nil {
			continue // it has ended
		}
		uid := UID(string(cgroups), string(own))
		if uid == "" {
			continue
		}
		started, err := start(pid)
		if err != nil {
			continue
		}
		if first, ok := found[uid]; !ok || started.Before(first.Started) {
			found[uid] = Process{pid, started}
		}
	}
	return found, nil
}

func file(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// start is when a process was started: field 22 of its stat, in ticks since
// boot. The name before it may have spaces and parentheses.
func start(pid int) (time.Time, error) {
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}, fmt.Errorf("stat of process %d has %d fields after its name", pid, len(fields))
	}
	count, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("stat of process %d: %w", pid, err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, err
	}
	age := time.Duration(up.Nano()) - time.Duration(count)*(time.Second/ticks)
	return time.Now().Add(-age), nil
}

// netnsDirs are where runtimes keep the namespaces of pods.
var netnsDirs = []string{"/run/netns", "/var/run/netns"}

// Netns returns a path of a process's network namespace: the one that the
// runtime knows it by, which stays when the process ends; else that of the
// process.
func (p Process) Netns() (string, error) {
	own := file(p.PID, "ns/net")
	want, err := os.Stat(own)
	if err != nil {
		return "", fmt.Errorf("network namespace of process %d: %w", p.PID, err)
	}
	for _, dir := range netnsDirs {
		names, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("looking for network namespaces: %w", err)
		}
		for _, name := range names {
			path := filepath.Join(dir, name.Name())
			if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
				return path, nil
			}
		}
	}
	return own, nil
}
