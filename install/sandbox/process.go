package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a process that cannot be mistaken for a later one with its pid.
type Process struct {
	PID int `json:"pid"`
	// Started is in clock ticks since the machine booted.
	Started uint64 `json:"startedTicks"`
}

// processOf identifies a running process.
func processOf(pid int) (*Process, error) {
	_, started, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	return &Process{PID: pid, Started: started}, nil
}

// Alive reports whether the process still runs. One that ended and waits for
// its parent does not; but one whose first thread has ended does, as long as
// another is on its way out: it still holds files and locks.
func (p *Process) Alive() bool {
	if p == nil || p.PID <= 0 {
		return false
	}
	status, started, err := readStat(p.PID)
	if err != nil || started != p.Started || status == 'X' {
		return false
	}
	if status != 'Z' {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
	return err == nil && len(threads) > 1
}

// Signal sends a signal to the process, and to no other that has its pid by
// now. A process that has ended is not an error.
func (p *Process) Signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// readStat reads the state letter and the start time (fields 3 and 22 of
// /proc/PID/stat). The name in field 2 may contain anything.
func readStat(pid int) (status byte, started uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, ok := cutLast(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], started, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// launch is a process to be started somewhere.
type launch struct {
	netns  string // name; empty: the present one
	cgroup string // directory
	argv   []string
	env    []string
	path   string // search path for argv[0]
	dir    string
	log    string // file that stdout and stderr are appended to
}

// running is a process that this process started.
type running struct {
	Process
	done chan struct{} // closed when it has ended; then err is set
	err  error
}

// start starts a process that outlives us: in a session of its own, so that a
// Ctrl-C on the terminal does not reach it.
func (l launch) start() (*running, error) {
	log, err := os.OpenFile(l.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	defer log.Close()
	cmd, err := l.command()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setsid = true
	if err := startIn(cmd, l.netns, l.cgroup); err != nil {
		return nil, err
	}
	r := &running{done: make(chan struct{})}
	p, err := processOf(cmd.Process.Pid)
	// While we live, we are the parent and must reap it.
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	if err != nil {
		<-r.done
		return nil, fmt.Errorf("%s ended at once: %w", l.argv[0], errors.Join(r.err, err))
	}
	r.Process = *p
	return r, nil
}

// command is the process, not started.
func (l launch) command() (*exec.Cmd, error) {
	file, err := lookPath(l.argv[0], l.path)
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", l.argv[0], err)
	}
	return &exec.Cmd{
		Path: file, Args: l.argv, Env: l.env, Dir: l.dir,
		SysProcAttr: &syscall.SysProcAttr{},
	}, nil
}

// startIn starts a command inside a network namespace and a cgroup. Both are
// in force before its first instruction: a child inherits the namespace of the
// thread that forks it, and clone3 puts it into the cgroup.
func startIn(cmd *exec.Cmd, netns, cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return fmt.Errorf("open the cgroup of %s: %w", cmd.Args[0], err)
	}
	defer dir.Close()
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(dir.Fd())
	start := cmd.Start
	if netns != "" {
		start = func() error { return inNetns(netns, cmd.Start) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	return nil
}

// tail is the end of a log, for a message about why something failed.
func tail(path string) string {
	const most = 1000
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return "its log is empty"
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return "its log ends with:\n" + strings.TrimSpace(string(text))
}
