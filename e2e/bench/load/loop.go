package load

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Many connections are served the way busy programs do it: one thread on each
// side waits for all of them at once, and does what is ready together. A thread
// for each would measure little but switches between threads.

// A loop is one thread that waits for many sockets.
type loop struct {
	fd     int
	events []unix.EpollEvent
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	return &loop{fd, make([]unix.EpollEvent, 64)}, nil
}

// add has the loop wait for a socket that something can be read from.
func (l *loop) add(fd int, number int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: number}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("add a socket to an epoll: %w", err)
	}
	return nil
}

// wait returns the numbers of the sockets that are ready, at least one.
func (l *loop) wait() ([]unix.EpollEvent, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_WAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])),
			uintptr(len(l.events)), ^uintptr(0), 0, 0)
		switch errno {
		case 0:
			return l.events[:n], nil
		case unix.EINTR:
		default:
			return nil, fmt.Errorf("epoll_wait: %s", unix.ErrnoName(errno))
		}
	}
}

// reply answers the messages of every connection that was handed to the loop.
func (l *loop) reply() {
	runtime.LockOSThread()
	m := make([]byte, MessageSize)
	for {
		ready, err := l.wait()
		if err != nil {
			return // cannot be: the descriptor is ours; clients would find out
		}
		for i := range ready {
			fd := int(ready[i].Fd)
			// Messages are small and written at once, so the rest of one that
			// has begun is here, or about to be.
			if readFull(fd, m) != nil || writeFull(fd, m) != nil {
				closeSocket(fd) // which also takes it out of the loop
			}
		}
	}
}

// together is the client's side: all players of an order on one thread, each
// with one request under way.
func together(players []*player, limit time.Duration) error {
	l, err := newLoop()
	if err != nil {
		return err
	}
	defer unix.Close(l.fd)
	for i, p := range players {
		if err := l.add(p.fd, int32(i)); err != nil {
			return err
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- l.ask(players, limit)
	}()
	return <-done
}

// ask sends a request on each connection, and the next one when its reply is
// here, until the time is over and every reply has come.
func (l *loop) ask(players []*player, limit time.Duration) error {
	begin := time.Now()
	for _, p := range players {
		p.since = time.Since(begin)
		if err := p.send(); err != nil {
			return err
		}
	}
	for open := len(players); open > 0; {
		ready, err := l.wait()
		if err != nil {
			return err
		}
		for i := range ready {
			p := players[ready[i].Fd]
			if err := p.receive(); errors.Is(err, errEnd) {
				return errors.New("the server closed a connection with a request under way")
			} else if err != nil {
				return err
			}
			now := time.Since(begin)
			p.times.Add(now - p.since)
			p.count++
			p.since = now
			if now >= limit {
				open--
				continue
			}
			if err := p.send(); err != nil {
				return err
			}
		}
	}
	return nil
}
