package semantics

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What wakes a thread that waits in a system call.
var wakeRows = []Row{
	{Name: "blocked recv and data", run: func(s *stage) {
		c, v := s.pair()
		b := s.blockedRecv(v)
		s.put(c, []byte("wake"))
		b.say("recv")
	}, Checks: "returns the data"},
	{Name: "blocked recv and RST", Short: true, run: func(s *stage) {
		c, v := s.pair()
		b := s.blockedRecv(v)
		s.abort(c)
		b.say("recv")
	}, Checks: "ECONNRESET"},
	{Name: "blocked recv and close", run: func(s *stage) {
		c, v := s.pair()
		b := s.blockedRecv(v)
		s.need(s.drop(c), "close")
		b.say("recv")
	}, Checks: "EOF"},
	{Name: "blocked recv and own shutdown(SHUT_RD)", Short: true, run: func(s *stage) {
		_, v := s.pair()
		b := s.blockedRecv(v)
		s.need(unix.Shutdown(v, unix.SHUT_RD), "shut down")
		b.say("recv")
	}, Checks: "from another thread: EOF"},
	{Name: "blocked recv and own shutdown(SHUT_RDWR)", run: func(s *stage) {
		_, v := s.pair()
		b := s.blockedRecv(v)
		s.need(unix.Shutdown(v, unix.SHUT_RDWR), "shut down")
		b.say("recv")
	}, Checks: "from another thread: EOF"},
	{Name: "blocked recv and a signal", run: func(s *stage) {
		_, v := s.pair()
		defer s.interruptible(false)()
		b := s.blockedRecv(v)
		b.signal()
		b.say("recv")
	}, Checks: "without SA_RESTART: EINTR"},
	{Name: "blocked recv and a signal with SA_RESTART", run: func(s *stage) {
		c, v := s.pair()
		defer s.interruptible(true)()
		b := s.blockedRecv(v)
		b.signal()
		s.say("after the signal it %s", b.still())
		s.put(c, []byte("data"))
		b.say("recv")
	}, Checks: "goes on, and returns the data"},
	{Name: "blocked recv while another thread sends", Short: true, run: func(s *stage) {
		c, v := s.pair()
		good := 0
		for range 20 {
			b := s.blockedRecv(v)
			s.put(v, make([]byte, 4096)) // its acknowledgement wakes for room to write
			s.take(c, 4096)
			s.put(c, []byte("x"))
			b.wait()
			if b.result == `"x"` {
				good++
			} else {
				s.say("recv %s", b.result)
			}
		}
		s.say("%d of 20 return data", good)
	}, Checks: "room to write is no reason to return"},
	{Name: "blocked send and a reader", run: func(s *stage) {
		c, v := s.pair()
		n := s.fill(c, 16*mib)
		b := s.block(func() string { return did(send(c, make([]byte, 2*mib), 0)) })
		s.say("all arrives: %s", equal(s.drain(v, n+2*mib) == n+2*mib))
		b.say("send")
	}, Checks: "ends when the reader has made room"},
	{Name: "blocked send and RST", Short: true, run: func(s *stage) {
		c, v := s.pair()
		b := s.overfull(c)
		s.settled(func() bool { return s.unread(v) > 0 })
		s.abort(v)
		b.say("send")
		s.saySend("client", c, "more", 0)
		s.saySend("client", c, "more", 0)
	}, Checks: "returns how much was taken, then ECONNRESET, then EPIPE"},
	{Name: "blocked send and a signal", run: func(s *stage) {
		c, v := s.pair()
		defer s.interruptible(false)()
		b := s.overfull(c)
		s.settled(func() bool { return s.unread(v) > 0 })
		b.signal()
		b.say("send")
	}, Checks: "without SA_RESTART: returns how much was taken"},
	{Name: "blocked send and own shutdown", run: func(s *stage) {
		c, v := s.pair()
		b := s.overfull(c)
		s.settled(func() bool { return s.unread(v) > 0 })
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		b.say("send")
		s.saySend("client", c, "more", 0)
	}, Checks: "from another thread: returns how much was taken, then EPIPE"},
	{Name: "blocked poll", run: func(s *stage) {
		c, v := s.pair()
		poll := func() string { return s.poll(v, unix.POLLIN|unix.POLLRDHUP) }
		b := s.block(poll)
		s.put(c, []byte("x"))
		b.say("data:")
		s.take(v, 1)
		b = s.block(poll)
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		b.say("FIN:")
		s.put(v, []byte("unread"))
		s.arrived(c)
		s.need(s.drop(c), "close")
		s.say("RST: %s", s.settledEvents(v, unix.POLLERR))
	}, Checks: "the events of data, FIN and RST"},
	{Name: "blocked splice and close", run: func(s *stage) {
		c, v := s.pair()
		_, w := s.pipe(0)
		b := s.block(func() string { return did(splice(v, w, 64, 0)) })
		s.put(c, []byte("data"))
		b.say("splice")
		b = s.block(func() string { return did(splice(v, w, 64, 0)) })
		s.need(s.drop(c), "close")
		b.say("splice")
	}, Checks: "returns the data, then 0"},
	{Name: "blocked accept", run: func(s *stage) {
		l := s.listen(1)
		b := s.block(func() string { s.accept(l); return "a connection" })
		s.dial()
		b.say("accept")
	}, Checks: "returns the connection"},
	{Name: "two threads in recv", run: func(s *stage) {
		c, v := s.pair()
		a, b := s.blockedRecv(v), s.blockedRecv(v)
		s.put(c, []byte("x"))
		s.settled(func() bool { return a.ended() || b.ended() })
		s.pause(20 * time.Millisecond)
		s.say("one returns: %v", a.ended() != b.ended())
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		a.wait()
		b.wait()
		results := []string{a.result, b.result}
		slices.Sort(results)
		s.say("%s", strings.Join(results, " and "))
	}, Checks: "one byte for one of them"},
}

func init() { inGroup("wake", wakeRows) }

// blockedRecv is a thread that waits for data. It says what the kernel said: a
// signal is an outcome here.
func (s *stage) blockedRecv(fd int) *blocked {
	return s.block(func() string {
		p := make([]byte, 16)
		n, _, err := unix.Recvfrom(fd, p, 0)
		return received(p, n, err)
	})
}

// overfull is a thread that sends more than the connection takes.
func (s *stage) overfull(fd int) *blocked {
	return s.block(func() string {
		p := make([]byte, 16*mib)
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL)
		if err == nil && n > 0 && n < len(p) {
			return "a part"
		}
		return did(n, err)
	})
}

func (b *blocked) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// settledEvents waits until the events of a socket have one of want.
func (s *stage) settledEvents(fd int, want int16) string {
	var events int16
	s.settled(func() bool {
		events = s.pollFor(fd, unix.POLLIN|unix.POLLRDHUP, 0)
		return events&want != 0
	})
	return eventNames(events)
}
