package semantics

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Options and names of sockets, and what can be seen of the packets.
var optionRows = []Row{
	{Name: "names", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.say("client's peer is what it dialled: %v", s.peer(c) == netip.AddrPortFrom(s.ends.target(), s.port))
		s.say("server's name is its own: %v", s.local(v) == netip.AddrPortFrom(s.ends.Server.Addr, s.port))
		s.say("server's peer is the client: %v", s.peer(v) == s.local(c))
	}, Checks: "getpeername and getsockname"},
	{Name: "a client's own port", run: func(s *stage) {
		l := s.listen(16)
		c := s.socket(s.ends.Client, 0, []option{with(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)})
		const port = 19999
		s.need(unix.Bind(c, sockaddr(s.ends.Client.Addr, port)), "bind")
		s.need(s.connect(c), "connect")
		v := s.accept(l)
		s.say("the server sees it: %v", s.peer(v) == netip.AddrPortFrom(s.ends.Client.Addr, port))
		s.abort(c) // or the port waits a minute
		s.sayRecv("server", v, 1, 0)
	}, Checks: "bind, then connect"},
	{Name: "SO_BINDTODEVICE", run: func(s *stage) {
		l := s.listen(16)
		c := s.dial(func(fd int) error { return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0") })
		v := s.accept(l)
		s.put(c, []byte("bound"))
		s.say("server %q", s.take(v, 5))
	}, Checks: "a client bound to eth0"},
	{Name: "TCP_MAXSEG", run: func(s *stage) {
		c, v := s.pair()
		s.say("client %d, server %d", s.get(c, unix.IPPROTO_TCP, unix.TCP_MAXSEG), s.get(v, unix.IPPROTO_TCP, unix.TCP_MAXSEG))
	}, Checks: "the segment size of both sides"},
	{Name: "path MTU", run: func(s *stage) {
		c, v := s.pair()
		level, opt := unix.IPPROTO_IP, unix.IP_MTU
		if s.ends.v6() {
			level, opt = unix.IPPROTO_IPV6, unix.IPV6_MTU
		}
		s.say("client %d, server %d", s.get(c, level, opt), s.get(v, level, opt))
		s.say("TCP_INFO %d", s.info(c).Pmtu)
	}, Checks: "IP_MTU and TCP_INFO"},
	{Name: "hops", Limit: 10 * time.Second, run: hops, Checks: "the TTL that packets arrive with, found by IP_MINTTL"},
	{Name: "keep-alive", run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		s.set(c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1)
		s.set(c, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1)
		before := s.info(c)
		s.say("a probe is answered: %v", s.until(4*time.Second, func() bool {
			i := s.info(c)
			return i.Segs_out > before.Segs_out && i.Segs_in > before.Segs_in
		}))
		s.put(v, []byte("alive"))
		s.say("client %q", s.take(c, 5))
	}, Checks: "TCP_KEEPIDLE of a second: a probe goes out and is answered"},
	{Name: "TCP_USER_TIMEOUT", run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1234)
		s.say("%d", s.get(c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT))
		s.put(c, []byte("alive"))
		s.say("server %q", s.take(v, 5))
	}, Checks: "can be set and read, and changes nothing on a live connection"},
	{Name: "what both sides agreed on", run: func(s *stage) {
		c, v := s.pair()
		const usual = 1 | 2 | 4 // timestamps, SACK, window scale
		s.say("client %#x, server %#x", s.info(c).Options&usual, s.info(v).Options&usual)
	}, Checks: "timestamps, selective acknowledgement and window scale, from TCP_INFO"},
	{Name: "options of an accepted socket", run: func(s *stage) {
		l := s.listen(16, with(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1), with(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		s.dial()
		v := s.accept(l)
		s.say("SO_KEEPALIVE %d, TCP_NODELAY %d", s.get(v, unix.SOL_SOCKET, unix.SO_KEEPALIVE), s.get(v, unix.IPPROTO_TCP, unix.TCP_NODELAY))
		s.say("SO_PROTOCOL %d, SO_ACCEPTCONN %d", s.get(v, unix.SOL_SOCKET, unix.SO_PROTOCOL), s.get(v, unix.SOL_SOCKET, unix.SO_ACCEPTCONN))
	}, Checks: "are the listener's"},
	{Name: "MPTCP", Limit: 20 * time.Second, run: func(s *stage) { s.multipath(unix.IPPROTO_MPTCP) },
		Checks: "MPTCP sockets on both sides, 4 MiB each way"},
	{Name: "TCP to an MPTCP listener", Limit: 20 * time.Second, run: func(s *stage) { s.multipath(unix.IPPROTO_TCP) },
		Checks: "the same, the client is TCP: what Go's servers do"},
	{Name: "TCP_ULP tls", run: kernelTLS, Checks: "records written and read by the kernel, where it can (ENOENT where it cannot)"},
}

func init() { inGroup("option", optionRows) }

func (s *stage) peer(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	s.need(err, "read the peer's name")
	return addrPort(sa)
}

func (s *stage) local(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	s.need(err, "read the socket's name")
	return addrPort(sa)
}

// until is settled with a limit of its own.
func (s *stage) until(limit time.Duration, ready func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if s.settled(ready) {
			return true
		}
	}
	return false
}

// hops raises the bar for the TTL until nothing arrives: the sender then tries
// again and again.
func hops(s *stage) {
	c, v := s.pair()
	level, opt := unix.IPPROTO_IP, unix.IP_MINTTL
	if s.ends.v6() {
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT
	}
	const first, most = 56, 64 // what Linux sends with
	for least := first; least <= most; least++ {
		s.set(v, level, opt, least)
		before, repeats := s.unread(v), s.info(c).Total_retrans
		s.put(c, []byte("x"))
		s.until(4*time.Second, func() bool {
			return s.unread(v) > before || s.info(c).Total_retrans >= repeats+3
		})
		if s.unread(v) == before {
			s.say("packets arrive with %d", least-1)
			return
		}
	}
	s.say("packets arrive with %d or more", most)
}

// kernelTLS gives both sides the same key, one to write and one to read.
func kernelTLS(s *stage) {
	c, v := s.pair()
	for _, fd := range []int{c, v} {
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls"); err != nil {
			s.say("%s", name(err))
			return
		}
	}
	// struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, sequence.
	const version, cipher, keys, tx, rx = 0x0303, 51, 8 + 16 + 4 + 8, 1, 2
	key := append([]byte{version & 0xff, version >> 8, cipher, 0}, make([]byte, keys)...)
	s.need(unix.SetsockoptString(c, unix.SOL_TLS, tx, string(key)), "set the key")
	s.need(unix.SetsockoptString(v, unix.SOL_TLS, rx, string(key)), "set the key")
	s.put(c, []byte("secret"))
	s.say("server %q", s.take(v, 6))
}

// multipath moves bytes to and from a listener of MPTCP.
func (s *stage) multipath(client int) {
	reuse := []option{with(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)}
	l := s.listenOn(s.socketOf(s.ends.Server, unix.IPPROTO_MPTCP, 0, reuse), 16)
	c := s.socketOf(s.ends.Client, client, 0, nil)
	s.need(s.connect(c), "connect")
	v := s.accept(l)
	up, down := s.bulk(c, v, 4*mib, 64<<10), s.bulk(v, c, 4*mib, 64<<10)
	s.say("up %s", up.text())
	s.say("down %s", down.text())
	s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
	s.sayRecv("server", v, 16, 0)
}
