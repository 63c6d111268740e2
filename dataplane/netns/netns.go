package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls fn on a thread that is inside the network namespace at path (for
// example /run/netns/NAME or /proc/PID/ns/net) and returns fn's error. Sockets
// that fn creates belong to that namespace for good; goroutines that fn starts
// do not run in it. The caller's own thread never leaves its namespace: fn has
// a goroutine and a locked thread of its own, and a thread that could not
// return is not given back to the runtime. Needs CAP_SYS_ADMIN. Safe for
// concurrent use.
//
// When fn ends its goroutine (runtime.Goexit, as testing.T.FailNow does), so
// does Do.
func Do(path string, fn func() error) error {
	// The path comes from a runtime: a FIFO there must not hold the thread.
	target, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(target)

	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = inside(target, path, fn)
		returned = true
	}()
	<-done
	if !returned {
		runtime.Goexit()
	}
	return err
}

// inside switches the thread, calls fn and switches back. It leaves the thread
// locked when it cannot say that the thread is home again; the runtime then
// ends the thread together with its goroutine.
func inside(target int, path string, fn func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s (needs CAP_SYS_ADMIN and a network namespace): %w", path, err)
	}
	defer func() {
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

// Cookie returns the kernel's number of the network namespace at path: unique
// until the next boot, never reused, and what hd_pods is keyed by. Needs
// CAP_SYS_ADMIN and Linux 5.14.
func Cookie(path string) (uint64, error) {
	var cookie uint64
	err := Do(path, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("create a socket in %s: %w", path, err)
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil {
			return fmt.Errorf("read the cookie of network namespace %s (needs Linux 5.14): %w", path, err)
		}
		return nil
	})
	return cookie, err
}
