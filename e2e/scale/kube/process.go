package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is the controller.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func newProcess(cmd *exec.Cmd) process {
	p := process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // why it ended is in its log
		close(p.gone)
	}()
	return p
}

func (p process) stop() error {
	for _, signal := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		_ = p.cmd.Process.Signal(signal) // an error says that it has ended
		select {
		case <-p.gone:
			return nil
		case <-time.After(20 * time.Second):
		}
	}
	return fmt.Errorf("process %d does not end", p.cmd.Process.Pid)
}

// ticks of /proc are hundredths of a second, whatever the kernel's own are.
const ticks = 100

// cpu is what the process has used so far, in seconds: user and system time.
func (p process) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return cpuOf(text)
}

func cpuOf(stat []byte) (float64, error) {
	// The name of the process, in parentheses, may have anything in it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%q is no line of /proc/PID/stat", stat)
	}
	var sum float64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += float64(n) / ticks
	}
	return sum, nil
}

// Memory is that of the controller, in bytes.
type Memory struct {
	RSS     uint64 `json:"rss"`
	Highest uint64 `json:"highest"`
}

func (p process) rss() (m Memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	for name, to := range map[string]*uint64{"VmRSS:": &m.RSS, "VmHWM:": &m.Highest} {
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
				n, err := strconv.ParseUint(fields[1], 10, 64)
				if err != nil {
					return m, err
				}
				*to = n << 10
			}
		}
	}
	return m, nil
}
