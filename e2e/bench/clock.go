package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Who uses CPU time, in reports.
const (
	byClient     = "client"
	byServer     = "server"
	byTheProxy   = "proxy"
	byAgent      = "agent"
	byController = "controller"
	byKsoftirqd  = "ksoftirqd"
)

// A witness knows the processes that a variant uses.
type witness struct {
	cgroups map[string]string // who -> directory
	pids    map[string][]int
	cores   []int
}

// watch collects the processes of a variant.
func (w *world) watch(v *Variant, cores []int, p *proxy) (*witness, error) {
	out := &witness{cgroups: map[string]string{}, pids: map[string][]int{}, cores: cores}
	client, err := w.client(v)
	if err != nil {
		return nil, err
	}
	server, err := w.server(v)
	if err != nil {
		return nil, err
	}
	out.cgroups[byClient], out.cgroups[byServer] = client.Cgroup, server.Cgroup
	if p != nil {
		out.pids[byTheProxy] = []int{p.cmd.Process.Pid}
	}
	if w.mesh() {
		agent, err := w.AgentProcess(v.Setting.node())
		if err != nil {
			return nil, err
		}
		controller, err := w.ControllerProcess()
		if err != nil {
			return nil, err
		}
		out.pids[byAgent], out.pids[byController] = []int{agent.PID}, []int{controller.PID}
	}
	out.pids[byKsoftirqd], err = ksoftirqd(cores)
	return out, err
}

// read is the CPU time of each until now, in nanoseconds.
func (w *witness) read() (map[string]int64, error) {
	out := map[string]int64{}
	for who, dir := range w.cgroups {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return nil, fmt.Errorf("list the processes of a pod: %w", err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s/cgroup.procs: %w", dir, err)
			}
			ns, err := runtimeOf(pid)
			if err != nil {
				return nil, err
			}
			out[who] += ns
		}
	}
	for who, pids := range w.pids {
		for _, pid := range pids {
			ns, err := runtimeOf(pid)
			if err != nil {
				return nil, err
			}
			out[who] += ns
		}
	}
	return out, nil
}

// since subtracts an earlier look. A process that ended between them makes the
// difference wrong, so it is an error.
func since(before, after map[string]int64) (map[string]int64, error) {
	out := map[string]int64{}
	for who, ns := range after {
		out[who] = ns - before[who]
		if out[who] < 0 {
			return nil, fmt.Errorf("the CPU clock of the %s went back: a process or thread of it ended while it was measured", who)
		}
	}
	return out, nil
}

// runtimeOf is what the scheduler says that the threads of a process have run,
// in nanoseconds: the time in the kernel included, and the interrupts that it
// served meanwhile.
func runtimeOf(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("read the CPU time of process %d: it has ended, or this kernel has no schedstat (CONFIG_SCHED_INFO)", pid)
	}
	var total int64
	for _, name := range files {
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of a thread: %w", err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		total += ns
	}
	return total, nil
}

// ksoftirqd finds the kernel threads that serve interrupts of the cores. A
// machine that does not show them (a container) has none for us.
func ksoftirqd(cores []int) ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, fmt.Errorf("look for ksoftirqd: %w", err)
	}
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		for _, c := range cores {
			if strings.TrimSpace(string(text)) == fmt.Sprintf("ksoftirqd/%d", c) {
				pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// tick is the unit of /proc/stat: USER_HZ is 100 on everything that Linux runs on.
const tick = 10 * time.Millisecond

// busy is how long the cores were not idle until now, whoever used them. It is
// coarse: the kernel counts in ticks.
func busy(cores []int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read how busy the cores are: %w", err)
	}
	var total time.Duration
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		for _, c := range cores {
			if len(f) < 9 || f[0] != fmt.Sprintf("cpu%d", c) {
				continue
			}
			for _, i := range []int{1, 2, 3, 6, 7} { // user nice system irq softirq
				n, err := strconv.ParseInt(f[i], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("/proc/stat: %w", err)
				}
				total += time.Duration(n) * tick
			}
		}
	}
	return total, nil
}
