package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is one of the processes that are measured.
type process struct {
	pid    int
	cgroup string // directory; the process is alone in it
	socket string // of its admin API
}

// findProcess finds the cgroup of a process.
func findProcess(pid int, socket string) (process, error) {
	p := process{pid: pid, socket: socket}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return p, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return p, err
	}
	p.cgroup, err = cgroupDir(string(own), string(mounts))
	return p, err
}

// cgroupDir is the directory of a process's cgroup2.
func cgroupDir(own, mounts string) (string, error) {
	var path string
	for line := range strings.Lines(own) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = rest
		}
	}
	for line := range strings.Lines(mounts) {
		place, fs, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(place); strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 && path != "" {
			return filepath.Join(fields[4], path), nil
		}
	}
	return "", fmt.Errorf("no cgroup2 of the process: mount one")
}

// cpu is what the process has used so far, in microseconds. The cgroup counts
// by the scheduler's clock, /proc only in ticks of 10 ms.
func (p process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(p.cgroup, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	n, err := field(string(text), "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// Memory is that of one process, in bytes.
type Memory struct {
	RSS     uint64 `json:"rss"`     // now
	Highest uint64 `json:"highest"` // of the RSS, since the process started
	Heap    uint64 `json:"heap"`    // of Go, in use, as of the last collection
}

func (p process) memory(ctx context.Context) (Memory, error) {
	var m Memory
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return m, err
	}
	for name, to := range map[string]*uint64{"VmRSS:": &m.RSS, "VmHWM:": &m.Highest} {
		n, err := field(string(text), name)
		if err != nil {
			return m, err
		}
		*to = n << 10
	}
	// Asked last: the answer takes memory itself.
	m.Heap, err = p.metric(ctx, "go_memstats_heap_inuse_bytes")
	return m, err
}

// metric reads one metric without labels.
func (p process) metric(ctx context.Context, name string) (uint64, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", p.socket)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return 0, err
	}
	return field(string(bytes.TrimSpace(text)), name)
}

// field finds the number behind a name at the beginning of a line.
func field(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != name {
			continue
		}
		n, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return uint64(n), nil
	}
	return 0, fmt.Errorf("there is no %s", name)
}
