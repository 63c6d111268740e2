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
	st, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	return &Process{PID: pid, Started: st.started}, nil
}

// Alive reports whether the process still runs. One that ended and waits for
// its parent does not; but one whose first thread has ended does, as long as
// another is on its way out: it still holds files and locks. Once it says no, it
// never says yes again.
func (p *Process) Alive() bool {
	if p == nil || p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	if err != nil || st.started != p.Started || st.status == 'X' {
		return false
	}
	return st.status != 'Z' || st.threads > 1
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

// stat is a part of /proc/PID/stat.
type stat struct {
	status  byte   // field 3, the state letter of the first thread
	threads int    // field 20
	started uint64 // field 22, in clock ticks since the machine booted
}

// readStat reads all of it at once: threads that are listed one by one, in
// /proc/PID/task, vanish under the reader, and take those behind them along.
func readStat(pid int) (*stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name in field 2 may contain anything.
	_, rest, ok := cutLast(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	threads, err1 := strconv.Atoi(fields[17])
	started, err2 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("/proc/%d/stat is not understood: %w", pid, err)
	}
	return &stat{fields[0][0], threads, started}, nil
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
