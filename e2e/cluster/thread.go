package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

var errDown = errors.New("the cluster is down")

// A thread starts processes in a network namespace. They are killed when it
// ends, which it does with the process it belongs to, however that ends: the
// kernel's death signal counts from the end of the thread that forked.
type thread struct {
	work chan func()
	quit chan struct{}
}

func newThread(ns *os.File) (*thread, error) {
	t := &thread{work: make(chan func()), quit: make(chan struct{})}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		ready <- err
		for err == nil {
			select {
			case f := <-t.work:
				f()
			case <-t.quit:
				return
			}
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("enter the network namespace of the control plane: %w", err)
	}
	return t, nil
}

// start starts a command in the thread's network namespace.
func (t *thread) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return t.do(cmd.Start)
}

// do runs f on the thread.
func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case t.work <- func() { result <- f() }:
		return <-result
	case <-t.quit:
		return errDown
	}
}

func (t *thread) stop() { close(t.quit) }

// inside runs f on a thread of its own in a network namespace. The thread is
// not used again.
func inside(ns *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// newNetns makes a network namespace, which lives as long as the file or a
// process inside. It has no name, so nothing is left of it in the end.
func newNetns() (ns *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("make a network namespace, which needs root: %w", err)
	}
	return ns, nil
}

// dialInside dials an IP address and port in a network namespace.
func dialInside(ctx context.Context, ns *os.File, dialer *net.Dialer, network, address string) (conn net.Conn, err error) {
	err = inside(ns, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
