package semantics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A stage is what one run of a row works with. Its methods may be used by all
// threads of the row. Those that need something to work end the thread when it
// does not, and the row says why.
type stage struct {
	ctx  context.Context
	ends Ends
	port uint16 // the server's

	mu    sync.Mutex
	said  []string
	fds   []int      // closed at the end
	conns []net.Conn // too
	tasks []*task
	over  bool // the row has ended: nothing new begins
}

// say adds to the outcome. What follows the row's end is not of it.
func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

// A task is a thread of the row.
type task struct{ done chan struct{} }

func (t *task) wait() { <-t.done }

// failure ends a thread of the row.
type failure struct{ why string }

// start runs fn in a goroutine, and takes its failure for the row's.
func (s *stage) start(fn func()) *task {
	t := &task{make(chan struct{})}
	s.mu.Lock()
	s.tasks = append(s.tasks, t)
	s.mu.Unlock()
	go func() {
		defer close(t.done)
		defer func() {
			switch p := recover().(type) {
			case nil:
			case failure:
				s.say("%s", p.why)
			default:
				panic(p)
			}
		}()
		fn()
	}()
	return t
}

// need ends the thread on an error.
func (s *stage) need(err error, what string) {
	if err != nil {
		panic(failure{fmt.Sprintf("cannot %s: %s", what, name(err))})
	}
}

// name is the short name of an error: ECONNRESET.
func name(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		if n := unix.ErrnoName(errno); n != "" {
			return n
		}
	}
	return err.Error()
}

// own keeps a descriptor until the row's end.
func (s *stage) own(fd int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fds = append(s.fds, fd)
	if s.over {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		panic(failure{"the row is over"})
	}
	return fd
}

// drop closes a descriptor before the row's end.
func (s *stage) drop(fd int) error {
	s.mu.Lock()
	s.fds = slices.DeleteFunc(s.fds, func(own int) bool { return own == fd })
	s.mu.Unlock()
	return unix.Close(fd)
}

// An option is set on a socket before it listens or connects.
type option func(fd int) error

func with(level, opt, value int) option {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, opt, value) }
}

func (s *stage) set(fd, level, opt, value int) {
	s.need(unix.SetsockoptInt(fd, level, opt, value), fmt.Sprintf("set option %d of level %d", opt, level))
}

func (s *stage) get(fd, level, opt int) int {
	value, err := unix.GetsockoptInt(fd, level, opt)
	s.need(err, fmt.Sprintf("read option %d of level %d", opt, level))
	return value
}

// socket makes a TCP socket of a place.
func (s *stage) socket(p Place, flags int, options []option) int {
	return s.socketOf(p, unix.IPPROTO_TCP, flags, options)
}

func (s *stage) socketOf(p Place, protocol, flags int, options []option) int {
	fd, err := s.ends.socket(p, protocol, flags)
	s.need(err, "make a socket")
	s.own(fd)
	for _, set := range options {
		s.need(set(fd), "set an option")
	}
	return fd
}

// listen makes the server's socket.
func (s *stage) listen(backlog int, options ...option) int {
	return s.listenOn(s.socket(s.ends.Server, 0, append([]option{with(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)}, options...)), backlog)
}

func (s *stage) listenOn(fd, backlog int) int {
	s.need(unix.Bind(fd, sockaddr(s.ends.Server.Addr, s.port)), "bind")
	s.need(unix.Listen(fd, backlog), "listen")
	return fd
}

// connect connects a client's socket to the server.
func (s *stage) connect(fd int) error {
	for {
		err := unix.Connect(fd, sockaddr(s.ends.target(), s.port))
		if err != unix.EINTR {
			return err
		}
	}
}

// dial makes a client's socket and connects it.
func (s *stage) dial(options ...option) int {
	fd := s.socket(s.ends.Client, 0, options)
	s.need(s.connect(fd), "connect")
	return fd
}

// accept takes a connection of the server.
func (s *stage) accept(listener int) int {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		s.need(err, "accept")
		return s.own(fd)
	}
}

// pair is a connection: the client's side and the server's.
func (s *stage) pair(options ...option) (client, server int) {
	l := s.listen(16)
	client = s.dial(options...)
	server = s.accept(l)
	s.need(s.drop(l), "close the listener")
	return client, server
}

// pause waits a moment in which something should not happen.
func (s *stage) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// settled waits until ready says so, for two seconds at most: then what is,
// is the outcome.
func (s *stage) settled(ready func() bool) bool {
	for end := time.Now().Add(2 * time.Second); ; {
		if ready() {
			return true
		}
		if time.Now().After(end) || s.ctx.Err() != nil {
			return false
		}
		s.pause(time.Millisecond)
	}
}
