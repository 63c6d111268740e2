package semantics

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A blocked is a thread inside a system call that does not return yet.
type blocked struct {
	*task
	s      *stage
	tid    int
	result string // valid after done
}

// block calls fn on a thread of its own and returns when that thread sleeps in
// a system call. fn makes one blocking call and returns what it said.
func (s *stage) block(fn func() string) *blocked {
	b := &blocked{s: s}
	tid := make(chan int, 1)
	b.task = s.start(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		b.result = fn()
	})
	b.tid = <-tid
	if !s.settled(b.sleeps) {
		panic(failure{"the call does not block"})
	}
	return b
}

// sleeps reports whether the thread sleeps in a system call that is not Go's
// scheduler waiting.
func (b *blocked) sleeps() bool {
	select {
	case <-b.done:
		return true // it did not block: its result says so
	default:
	}
	dir := fmt.Sprintf("/proc/self/task/%d/", b.tid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if !strings.HasPrefix(rest, "S") {
		return false
	}
	call, err := os.ReadFile(dir + "syscall")
	if err != nil {
		b.s.pause(20 * time.Millisecond) // a kernel that does not say which call
		return true
	}
	number, _, _ := strings.Cut(string(call), " ")
	n, err := strconv.Atoi(number)
	return err == nil && n >= 0 && n != unix.SYS_FUTEX
}

// still says whether the call still blocks after a moment.
func (b *blocked) still() string {
	b.s.pause(20 * time.Millisecond)
	select {
	case <-b.done:
		return "returned"
	default:
		return "blocks"
	}
}

// say waits for the call and says its result.
func (b *blocked) say(what string) {
	b.wait()
	b.s.say("%s %s", what, b.result)
}
