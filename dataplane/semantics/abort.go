package semantics

import (
	"time"

	"golang.org/x/sys/unix"
)

// Ends of connections that one side forces: RST.
var abortRows = []Row{
	{Name: "RST", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.abort(v)
		s.sayRecv("client", c, 16, 0)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "close with SO_LINGER 0: ECONNRESET once, then EOF"},
	{Name: "RST by the client", run: func(s *stage) {
		c, v := s.pair()
		s.abort(c)
		s.sayRecv("server", v, 16, 0)
		s.sayRecv("server", v, 16, 0)
	}, Checks: "the same, the client aborts"},
	{Name: "RST with queued data", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("queued"))
		s.arrived(v)
		s.abort(c)
		s.failed(v)
		s.sayRecv("server", v, 16, 0)
		s.sayRecv("server", v, 16, 0)
		s.sayRecv("server", v, 16, 0)
	}, Checks: "data that arrived before the RST, then the error, then EOF"},
	{Name: "RST of a half-closed connection", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.sayRecv("server", v, 16, 0)
		s.abort(v)
		s.sayRecv("client", c, 16, 0)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "FIN one way, then RST the other"},
	{Name: "close with unread data", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("unread"))
		s.arrived(v)
		s.need(s.drop(v), "close")
		s.sayRecv("client", c, 16, 0)
		s.saySend("client", c, "more", 0)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "the peer of a close that loses data sees ECONNRESET, then EPIPE"},
	{Name: "send after RST", run: func(s *stage) {
		c, v := s.pair()
		s.abort(v)
		s.failed(c)
		s.saySend("client", c, "first", 0)
		s.saySend("client", c, "second", 0)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "ECONNRESET, then EPIPE"},
	{Name: "SO_ERROR after RST", run: func(s *stage) {
		c, v := s.pair()
		s.abort(v)
		s.failed(c)
		s.say("%s", name(unix.Errno(s.get(c, unix.SOL_SOCKET, unix.SO_ERROR))))
		s.say("then %d", s.get(c, unix.SOL_SOCKET, unix.SO_ERROR))
	}, Checks: "the error is there once"},
	{Name: "SIGPIPE", run: func(s *stage) {
		c, v := s.pair()
		s.abort(v)
		s.failed(c)
		s.say("first send: %s", s.sendWithSignal(c))
		s.say("second send: %s", s.sendWithSignal(c))
	}, Checks: "sends after RST, without MSG_NOSIGNAL: which raises the signal"},
	{Name: "AF_UNSPEC disconnects", run: func(s *stage) {
		l := s.listen(16)
		c := s.dial()
		v := s.accept(l)
		s.say("disconnect %s", outcome(disconnect(c)))
		s.sayRecv("server", v, 16, 0)
		s.say("connect %s", outcome(s.connect(c)))
		w := s.accept(l)
		s.put(c, []byte("again"))
		s.say("server %q", s.take(w, 5))
	}, Checks: "connect to AF_UNSPEC resets the connection; the socket connects again"},
	{Name: "connection refused", run: func(s *stage) {
		l := s.listen(1)
		s.need(s.drop(l), "close the listener")
		c := s.socket(s.ends.Client, 0, nil)
		s.say("connect %s", outcome(s.connect(c)))
	}, Checks: "nobody listens"},
	{Name: "listener closed before accept", run: func(s *stage) {
		l := s.listen(16)
		c := s.dial()
		s.pause(5 * time.Millisecond)
		s.need(s.drop(l), "close the listener")
		s.sayRecv("client", c, 16, 0)
	}, Checks: "connections that nobody took are reset"},
}

func init() { inGroup("abort", abortRows) }
