package semantics

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The calls below return what the kernel does, except that a signal of Go's own
// runtime is not an outcome: where it interrupts a call, they call again.

func recv(fd int, p []byte, flags int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, p, flags)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func send(fd int, p []byte, flags int) (int, error) {
	for {
		n, err := unix.SendmsgN(fd, p, nil, nil, flags|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// received is the outcome of a read: the bytes, EOF or the error.
func received(p []byte, n int, err error) string {
	switch {
	case err != nil:
		return name(err)
	case n == 0:
		return "EOF"
	case n > 16:
		return fmt.Sprintf("%d bytes", n)
	}
	return strconv.Quote(string(p[:n]))
}

// did is the outcome of a call that returns a count.
func did(n int, err error) string {
	if err != nil {
		return name(err)
	}
	return strconv.Itoa(n)
}

// outcome is that of a call that returns nothing.
func outcome(err error) string {
	if err != nil {
		return name(err)
	}
	return "ok"
}

// sayRecv reads at most size bytes and says what came.
func (s *stage) sayRecv(who string, fd, size, flags int) {
	p := make([]byte, size)
	n, err := recv(fd, p, flags)
	s.say("%s recv %s", who, received(p, n, err))
}

// saySend sends a text and says what became of it.
func (s *stage) saySend(who string, fd int, text string, flags int) {
	s.say("%s send %s", who, did(send(fd, []byte(text), flags)))
}

// put sends all of p.
func (s *stage) put(fd int, p []byte) {
	for len(p) > 0 {
		n, err := send(fd, p, 0)
		s.need(err, "send")
		p = p[n:]
	}
}

// take reads exactly size bytes.
func (s *stage) take(fd, size int) []byte {
	p := make([]byte, size)
	for have := 0; have < size; {
		n, err := recv(fd, p[have:], 0)
		s.need(err, "receive")
		if n == 0 {
			panic(failure{fmt.Sprintf("EOF after %d of %d bytes", have, size)})
		}
		have += n
	}
	return p
}

// poll waits for events, for two seconds at most, and returns their names.
func (s *stage) poll(fd int, events int16) string {
	return eventNames(s.pollFor(fd, events, 2*time.Second))
}

func (s *stage) pollFor(fd int, events int16, limit time.Duration) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll(fds, int(max(time.Until(end), 0)/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		s.need(err, "poll")
		if n == 0 {
			return 0
		}
		return fds[0].Revents
	}
}

// arrived waits until there is something to read, an end or an error.
func (s *stage) arrived(fd int) {
	if s.pollFor(fd, unix.POLLIN, 2*time.Second) == 0 {
		panic(failure{"nothing arrives"})
	}
}

// eventNames names the events of poll, which those of epoll equal.
func eventNames(events int16) string {
	var names []string
	for _, e := range []struct {
		bit  int16
		name string
	}{
		{unix.POLLIN, "IN"}, {unix.POLLPRI, "PRI"}, {unix.POLLOUT, "OUT"},
		{unix.POLLERR, "ERR"}, {unix.POLLHUP, "HUP"}, {unix.POLLRDHUP, "RDHUP"},
	} {
		if events&e.bit != 0 {
			names = append(names, e.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// ioctl reads a count of a socket.
func (s *stage) ioctl(fd, request int, what string) int {
	n, err := unix.IoctlGetInt(fd, uint(request))
	s.need(err, what)
	return n
}

// unread is FIONREAD.
func (s *stage) unread(fd int) int { return s.ioctl(fd, unix.SIOCINQ, "read FIONREAD") }

// unacked is SIOCOUTQ, unsent is SIOCOUTQNSD.
func (s *stage) unacked(fd int) int { return s.ioctl(fd, unix.SIOCOUTQ, "read SIOCOUTQ") }
func (s *stage) unsent(fd int) int  { return s.ioctl(fd, unix.SIOCOUTQNSD, "read SIOCOUTQNSD") }

func (s *stage) info(fd int) *unix.TCPInfo {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	s.need(err, "read TCP_INFO")
	return info
}

// abort makes close send RST.
func (s *stage) abort(fd int) {
	s.need(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), "set SO_LINGER")
	s.need(s.drop(fd), "close")
}

// failed waits until the connection has an error.
func (s *stage) failed(fd int) { s.pollFor(fd, 0, 2*time.Second) }
