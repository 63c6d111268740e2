package semantics

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the calls that write return, and how much they take.
var writeRows = []Row{
	{Name: "slow reader", Short: true, Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		n := s.fill(c, 16*mib)
		if n < 8*mib {
			s.say("the sender gets rid of less than 8 MiB")
		} else {
			s.say("the sender gets rid of 8 MiB and more")
		}
		s.say("then the reader gets all: %s", equal(s.drain(v, n) == n))
		s.saySend("client", c, "more", 0)
		s.say("server %q", s.take(v, 4))
	}, Checks: "what a writer gets rid of while nobody reads is bounded, and arrives"},
	{Name: "SO_RCVBUF is honoured", run: func(s *stage) {
		l := s.listen(1, with(unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10))
		c := s.dial(with(unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10))
		v := s.accept(l)
		n := s.fill(c, 4*mib)
		if n < 512<<10 {
			s.say("the sender gets rid of less than 512 KiB")
		} else {
			s.say("the sender gets rid of 512 KiB and more")
		}
		s.say("then the reader gets all: %s", equal(s.drain(v, n) == n))
	}, Checks: "small buffers bound it further"},
	{Name: "poll for room", run: func(s *stage) {
		c, v := s.pair()
		n := s.fill(c, 16*mib)
		s.say("full: %s", eventNames(s.pollFor(c, unix.POLLOUT, 0)))
		s.drain(v, n)
		s.say("drained: %s", s.poll(c, unix.POLLOUT))
	}, Checks: "POLLOUT comes back when the reader reads"},
	{Name: "SO_SNDTIMEO", run: func(s *stage) {
		c, _ := s.pair()
		s.fill(c, 16*mib)
		s.need(unix.SetsockoptTimeval(c, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 30000}), "set SO_SNDTIMEO")
		var err error
		for range 10 { // a write that takes a part returns how much
			if _, err = send(c, make([]byte, 4*mib), 0); err != nil {
				break
			}
		}
		s.say("send %s", outcome(err))
	}, Checks: "EAGAIN after the time when nobody reads"},
	{Name: "splice into the socket", Short: true, run: func(s *stage) {
		c, v := s.pair()
		r, w := s.pipe(0)
		_, err := unix.Write(w, []byte("out of a pipe"))
		s.need(err, "write into a pipe")
		s.say("splice %s", did(splice(r, c, 64, 0)))
		s.say("server %q", s.take(v, 13))
	}, Checks: "from a pipe"},
	{Name: "sendfile", run: func(s *stage) {
		c, v := s.pair()
		p := random(256 << 10)
		f := s.file(p)
		s.start(func() {
			for left := len(p); left > 0; {
				n, err := unix.Sendfile(c, f, nil, left)
				if err != unix.EINTR {
					s.need(err, "sendfile")
					left -= n
				}
			}
		})
		s.say("checksum %s", equal(string(s.take(v, len(p))) == string(p)))
	}, Checks: "256 KiB out of a file"},
	{Name: "sendfile, then the file changes", Short: true, run: func(s *stage) {
		c, v := s.pair()
		f := s.file([]byte(strings.Repeat("a", 4096)))
		n, err := unix.Sendfile(c, f, nil, 4096)
		s.say("sendfile %s", did(n, err))
		s.settled(func() bool { return s.unacked(c) == 0 })
		_, err = unix.Pwrite(f, []byte(strings.Repeat("b", 4096)), 0)
		s.need(err, "change the file")
		s.say("the reader sees %d of 4096 bytes changed", bytes.Count(s.take(v, 4096), []byte("b")))
	}, Checks: "the pages are shared until they are read: the reader sees the change"},
	{Name: "writev", run: func(s *stage) {
		c, v := s.pair()
		n, err := unix.SendmsgBuffers(c, [][]byte{[]byte("one"), []byte("two"), []byte("three")}, nil, nil, unix.MSG_NOSIGNAL)
		s.say("sendmsg %s", did(n, err))
		s.say("server %q", s.take(v, 11))
	}, Checks: "out of three buffers"},
	{Name: "TCP_CORK", run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
		s.put(c, []byte("held"))
		s.say("corked: %d unsent", s.unsent(c))
		s.set(c, unix.IPPROTO_TCP, unix.TCP_CORK, 0)
		s.say("uncorked: %d unsent", s.unsent(c))
		s.say("server %q", s.take(v, 4))
	}, Checks: "holds a small write back"},
	{Name: "MSG_MORE", run: func(s *stage) {
		c, v := s.pair()
		s.saySend("client", c, "first ", unix.MSG_MORE)
		s.say("%d unsent", s.unsent(c))
		s.saySend("client", c, "second", 0)
		s.say("%d unsent", s.unsent(c))
		s.say("server %q", s.take(v, 12))
	}, Checks: "holds one write back"},
	{Name: "TCP_NODELAY", run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for _, text := range []string{"a", "b", "c"} {
			s.put(c, []byte(text))
			s.say("%d unsent", s.unsent(c))
		}
		s.say("server %q", s.take(v, 3))
	}, Checks: "small writes leave at once"},
	{Name: "TCP_NOTSENT_LOWAT", run: func(s *stage) {
		c, _ := s.pair()
		s.set(c, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16<<10)
		p := make([]byte, 16<<10)
		for s.pollFor(c, unix.POLLOUT, 50*time.Millisecond) != 0 && s.ctx.Err() == nil {
			s.put(c, p)
		}
		s.say("no more than 64 KiB wait to be sent: %v", s.unsent(c) <= 64<<10)
	}, Checks: "poll finds no room while more than that waits to be sent"},
	{Name: "SIOCOUTQ", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("acknowledged unread"))
		s.settled(func() bool { return s.unacked(c) == 0 })
		s.say("%d unacknowledged, %d unread", s.unacked(c), s.unread(v))
		s.fill(c, 16*mib)
		s.say("of a full connection some: %v", s.unacked(c) > 0)
	}, Checks: "counts what the peer has not acknowledged"},
}

func init() { inGroup("write", writeRows) }

// fill writes until nobody takes more, most bytes at the most, and returns how
// many it got rid of.
func (s *stage) fill(fd, most int) (n int) {
	p := make([]byte, 64<<10)
	for n < most {
		part, err := send(fd, p, unix.MSG_DONTWAIT)
		n += part
		if err == unix.EAGAIN {
			// The kernel may still be moving what it has.
			if s.pollFor(fd, unix.POLLOUT, 50*time.Millisecond) == 0 {
				return n
			}
			continue
		}
		s.need(err, "send")
	}
	return n
}

// drain reads size bytes, or what comes until the end, and returns how many.
func (s *stage) drain(fd, size int) (n int) {
	p := make([]byte, 64<<10)
	for n < size {
		part, err := recv(fd, p[:min(len(p), size-n)], 0)
		s.need(err, "receive")
		if part == 0 {
			break
		}
		n += part
	}
	return n
}

// file is a file in memory.
func (s *stage) file(content []byte) int {
	fd, err := unix.MemfdCreate("row", unix.MFD_CLOEXEC)
	s.need(err, "make a file in memory")
	s.own(fd)
	_, err = unix.Pwrite(fd, content, 0)
	s.need(err, "write a file")
	return fd
}
