package semantics

import (
	"time"

	"golang.org/x/sys/unix"
)

// In which order things arrive while a connection begins.
var orderRows = []Row{
	{Name: "the server speaks first", Short: true, run: func(s *stage) {
		l := s.listen(16)
		s.start(func() {
			for range 20 {
				v := s.accept(l)
				s.put(v, []byte("220 ready"))
				s.put(v, s.take(v, 4))
				s.need(s.drop(v), "close")
			}
		})
		good := 0
		for range 20 {
			c := s.dial()
			greeting := string(s.take(c, 9))
			s.put(c, []byte("QUIT"))
			if greeting == "220 ready" && string(s.take(c, 4)) == "QUIT" {
				good++
			}
			s.need(s.drop(c), "close")
		}
		s.say("%d of 20", good)
	}, Checks: "a greeting before the client has said anything"},
	{Name: "order at the beginning", Short: true, run: func(s *stage) {
		s.say("%s", s.inOrder(100, nil, nil))
	}, Checks: "three writes right after connect, 100 connections: ABC"},
	{Name: "order with TCP_DEFER_ACCEPT", run: func(s *stage) {
		s.say("%s", s.inOrder(100, []option{with(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)}, nil))
	}, Checks: "the same, the connection is accepted with its first data"},
	{Name: "order with TCP Fast Open", run: func(s *stage) {
		for _, p := range []Place{s.ends.Client, s.ends.Server} {
			s.need(p.sysctl("ipv4/tcp_fastopen", "3"), "allow Fast Open")
		}
		open := func(fd int) int {
			n, err := unix.SendmsgN(fd, []byte("A"), nil, sockaddr(s.ends.target(), s.port), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL)
			s.need(err, "connect with data")
			return n
		}
		s.say("%s", s.inOrder(20, []option{with(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)}, open))
	}, Checks: "the same, data in the SYN (from the second connection on)"},
	{Name: "data in the SYN", run: func(s *stage) {
		for _, p := range []Place{s.ends.Client, s.ends.Server} {
			s.need(p.sysctl("ipv4/tcp_fastopen", "3"), "allow Fast Open")
		}
		l := s.listen(16, with(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16))
		const synData = 32 // TCPI_OPT_SYN_DATA
		with := false
		for range 5 { // the first one gets the cookie
			c := s.socket(s.ends.Client, 0, nil)
			_, err := unix.SendmsgN(c, []byte("early"), nil, sockaddr(s.ends.target(), s.port), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL)
			s.need(err, "connect with data")
			v := s.accept(l)
			s.take(v, 5)
			s.put(v, []byte("x"))
			s.take(c, 1)
			with = with || s.info(c).Options&synData != 0
			s.need(s.drop(c), "close")
			s.need(s.drop(v), "close")
		}
		s.say("accepted: %v", with)
	}, Checks: "TCP Fast Open works at all"},
	{Name: "order of accept", run: func(s *stage) {
		l := s.listen(64)
		good := 0
		for range 50 {
			first, second := s.dial(), s.dial()
			for _, c := range []int{first, second} {
				v := s.accept(l)
				if peer, own := s.peer(v), s.local(c); peer == own {
					good++
				}
				s.need(s.drop(c), "close")
				s.need(s.drop(v), "close")
			}
		}
		s.say("%d of 100 in order", good)
	}, Checks: "connections are accepted in the order in which they were made"},
	{Name: "a write after a while", run: func(s *stage) {
		c, v := s.pair()
		for range 3 {
			s.pause(50 * time.Millisecond)
			s.put(c, []byte("ping"))
			s.say("server %q", s.take(v, 4))
			s.put(v, []byte("pong"))
			s.say("client %q", s.take(c, 4))
		}
	}, Checks: "an idle connection carries on, both ways"},
}

func init() { inGroup("order", orderRows) }

// inOrder makes connections, writes A, B and C at once on each, and says how
// many servers read ABC. open connects and sends the A; nil: one after the
// other.
func (s *stage) inOrder(count int, options []option, open func(fd int) int) string {
	l := s.listen(64, options...)
	good := 0
	server := s.start(func() {
		for range count {
			v := s.accept(l)
			if string(s.take(v, 3)) == "ABC" {
				good++
			}
			s.put(v, []byte("."))
			s.need(s.drop(v), "close")
		}
	})
	for range count {
		c := s.socket(s.ends.Client, 0, []option{with(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)})
		if open == nil {
			s.need(s.connect(c), "connect")
			s.put(c, []byte("A"))
		} else {
			open(c)
		}
		s.put(c, []byte("B"))
		s.put(c, []byte("C"))
		s.take(c, 1)
		s.need(s.drop(c), "close")
	}
	server.wait()
	return did(good, nil) + " of " + did(count, nil) + " in order"
}
