package attach

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heddle.io/heddle/dataplane/netns"
)

// load is traffic of the client pod to the service, until stop: connections
// that stay open, and new ones all the time. Nothing of it may ever fail.
type load struct {
	rig     *rig
	stopped chan struct{}
	wg      sync.WaitGroup
	dialled atomic.Uint64 // new connections so far

	mu   sync.Mutex
	errs []error // guarded by mu
}

func (r *rig) load() *load {
	r.Helper()
	l := &load{rig: r, stopped: make(chan struct{})}
	for _, addr := range []string{vip4, vip6} {
		c := r.dial(r.client.NS, "tcp", vip(addr).String())
		l.dialled.Add(1)
		wantGreeting(r, c, "pod")
		l.run(func() error { return l.talk(c) })
		l.run(func() error { return l.connect(vip(addr).String()) })
	}
	r.Cleanup(func() { l.stop(r.TB) })
	return l
}

func (l *load) run(fn func() error) {
	l.wg.Go(func() {
		for {
			select {
			case <-l.stopped:
				return
			default:
			}
			time.Sleep(time.Millisecond) // the machine is to upgrade, too
			if err := fn(); err != nil {
				l.mu.Lock()
				l.errs = append(l.errs, err)
				l.mu.Unlock()
				return
			}
		}
	})
}

// talk uses a connection that stays open.
func (l *load) talk(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := exchange(c, "still here"); err != nil {
		return fmt.Errorf("on an open connection: %w", err)
	}
	return nil
}

// connect makes a new connection.
func (l *load) connect(addr string) error {
	var c net.Conn
	err := netns.Do(l.rig.client.Path(), func() (err error) {
		c, err = net.DialTimeout("tcp", addr, patience)
		return err
	})
	if err != nil {
		return fmt.Errorf("new connection: %w", err)
	}
	defer c.Close()
	l.dialled.Add(1)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if got := greeting(c); got != "pod" {
		return fmt.Errorf("new connection reached %q", got)
	}
	// The server closes first, so that the client's ports are free at once.
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return fmt.Errorf("end of a new connection: %w", err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		return fmt.Errorf("end of a new connection: %w", err)
	}
	return nil
}

// progress waits until new connections have been made since the call.
func (l *load) progress() {
	l.rig.Helper()
	before := l.dialled.Load()
	l.rig.eventually(func() error {
		if n := l.dialled.Load() - before; n < 10 && !l.failed() {
			return fmt.Errorf("only %d new connections", n)
		}
		return nil
	})
}

func (l *load) failed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.errs) > 0
}

// stop ends the traffic and fails the test if any of it failed.
func (l *load) stop(t testing.TB) {
	t.Helper()
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.errs...); err != nil {
		t.Errorf("traffic failed after %d new connections: %v", l.dialled.Load(), err)
	}
	l.errs = nil
}
