package load

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// Quiet is the environment of a process that calls Prepare: without it the
// runtime interrupts threads that seem to compute for long, and those that block
// in a raw call do.
const Quiet = "GODEBUG=asyncpreemptoff=1"

// Prepare makes this process one that measures: on one core, with a processor of
// the scheduler for each of so many blocking threads, and without garbage
// collection.
func Prepare(cpu, threads int) error {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(threads + 4)
	return Pin(os.Getpid(), cpu)
}

// Pin binds every thread of a process to cores. Threads that it starts later
// inherit that.
func Pin(pid int, cpus ...int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	done := map[int]bool{}
	for again := true; again; { // a thread may start another while we look
		again = false
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("list the threads of process %d: %w", pid, err)
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("bind thread %d to cores %v: %w (does this machine have them?)", tid, cpus, err)
			}
			done[tid], again = true, true
		}
	}
	return nil
}
