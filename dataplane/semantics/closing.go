package semantics

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ends of connections that both sides agree on.
var closeRows = []Row{
	{Name: "half-close", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("question"))
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.say("server %q", s.take(v, 8))
		s.sayRecv("server", v, 16, 0)
		s.put(v, []byte("answer"))
		s.need(s.drop(v), "close")
		s.say("client %q", s.take(c, 6))
		s.sayRecv("client", c, 16, 0)
	}, Checks: "shutdown(SHUT_WR), then the other direction still carries the answer"},
	{Name: "half-close by the server", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.Shutdown(v, unix.SHUT_WR), "shut down")
		s.sayRecv("client", c, 16, 0)
		s.say("%s", s.bulk(c, v, 256<<10, 16<<10).text())
	}, Checks: "the client still sends after the server's shutdown(SHUT_WR)"},
	{Name: "states of a half-closed connection", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.sayRecv("server", v, 1, 0)
		const finWait2, closeWait = 5, 8
		s.settled(func() bool { return s.info(c).State == finWait2 })
		s.say("client in state %d, server in state %d", s.info(c).State, s.info(v).State)
	}, Checks: "TCP_INFO: FIN_WAIT2 (5) here, CLOSE_WAIT (8) there"},
	{Name: "close with queued data", Short: true, run: func(s *stage) {
		c, v := s.pair()
		p := []byte(strings.Repeat("queued ", 9000))
		s.put(c, p)
		s.need(s.drop(c), "close")
		s.say("checksum %s", equal(string(s.take(v, len(p))) == string(p)))
		s.sayRecv("server", v, 16, 0)
	}, Checks: "63 KB sent, then close: the peer reads all of it, then EOF"},
	{Name: "close before accept", Short: true, run: func(s *stage) {
		l := s.listen(16)
		c := s.dial()
		s.put(c, []byte("early"))
		s.need(s.drop(c), "close")
		v := s.accept(l)
		s.say("server %q", s.take(v, 5))
		s.sayRecv("server", v, 16, 0)
	}, Checks: "connect, send and close before the server accepts"},
	{Name: "close waits with SO_LINGER", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 4}), "set SO_LINGER")
		s.put(c, []byte("lingers"))
		s.need(s.drop(c), "close")
		s.say("%d bytes are there when close returns", s.unread(v))
	}, Checks: "close with a linger time returns when all is acknowledged"},
	{Name: "write after the peer's close", run: func(s *stage) {
		c, v := s.pair()
		s.need(s.drop(v), "close")
		s.sayRecv("client", c, 16, 0)
		s.saySend("client", c, "first", 0)
		s.failed(c)
		s.saySend("client", c, "second", 0)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "the first write succeeds and is answered by RST, the second fails"},
	{Name: "write after own shutdown", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.saySend("client", c, "late", 0)
		s.put(v, []byte("still"))
		s.say("client %q", s.take(c, 5))
	}, Checks: "EPIPE after shutdown(SHUT_WR); reading goes on"},
	{Name: "read after own shutdown", run: func(s *stage) {
		c, v := s.pair()
		s.put(v, []byte("before"))
		s.arrived(c)
		s.need(unix.Shutdown(c, unix.SHUT_RD), "shut down")
		s.sayRecv("client", c, 16, 0)
		s.sayRecv("client", c, 16, 0)
		s.saySend("client", c, "still", 0)
		s.say("server %q", s.take(v, 5))
	}, Checks: "shutdown(SHUT_RD): what is there, then EOF; writing goes on"},
	{Name: "both close at once", run: func(s *stage) {
		c, v := s.pair()
		a := s.start(func() { s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down") })
		b := s.start(func() { s.need(unix.Shutdown(v, unix.SHUT_WR), "shut down") })
		a.wait()
		b.wait()
		s.sayRecv("client", c, 16, 0)
		s.sayRecv("server", v, 16, 0)
	}, Checks: "two FINs that cross: EOF on both sides"},
	{Name: "one of two descriptors closed", run: func(s *stage) {
		c, v := s.pair()
		dup, err := unix.FcntlInt(uintptr(c), unix.F_DUPFD_CLOEXEC, 0)
		s.need(err, "duplicate")
		s.own(dup)
		s.need(s.drop(c), "close")
		s.pause(10 * time.Millisecond)
		s.put(dup, []byte("alive"))
		s.say("server %q", s.take(v, 5))
		s.need(s.drop(dup), "close")
		s.sayRecv("server", v, 16, 0)
	}, Checks: "dup, close one: the connection ends with the other"},
}

func init() { inGroup("close", closeRows) }
