package plane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens a unix socket or a TCP address.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix://")
	if isUnix {
		l, err := listenUnix(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("%w: %s=%s: %w", ErrEnvironment, flag, address, err)
		}
		return l, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: %s=%s: %w; stop who uses it, or choose another address", ErrEnvironment, flag, address, err)
	}
	return l, nil
}

// listenUnix opens a socket of mode 0600. One that a killed process left behind
// is replaced; one that a live process serves is not touched. A lock file beside
// it, which the kernel unlocks however the process ends, keeps two controllers
// that start at the same time from taking it from each other.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		lock.Close()
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Before bind, so that the file never has a wider mode.
		var chmodErr error
		err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmodErr)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &lockedListener{Listener: l, unlock: sync.OnceValue(lock.Close)}, nil
}

// lockedListener keeps the lock file open as long as the socket. The file stays:
// removing it would let two processes lock two files of one name.
type lockedListener struct {
	net.Listener
	unlock func() error
}

func (l *lockedListener) Close() error {
	return errors.Join(l.Listener.Close(), l.unlock())
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another controller serves there; stop it, or choose another socket")
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// removeStale removes the socket at path when nobody answers on it.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of another kind; remove it, or choose another socket")
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process answers there; stop it, or choose another socket")
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("cannot tell whether it is in use: %w", err)
}

// limited is a listener with a bound on the connections that are open; further
// ones wait in the kernel's queue.
type limited struct {
	net.Listener
	slots chan struct{}
}

func limit(l net.Listener, most int) net.Listener {
	return &limited{l, make(chan struct{}, most)}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{c, sync.OnceFunc(func() { <-l.slots })}, nil
}

type slotConn struct {
	net.Conn
	free func()
}

func (c *slotConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
