package semantics

import (
	"strings"

	"golang.org/x/sys/unix"
)

// What the calls that read return.
var readRows = []Row{
	{Name: "MSG_PEEK", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("peekaboo"))
		s.settled(func() bool { n, _ := recv(v, make([]byte, 16), unix.MSG_PEEK|unix.MSG_DONTWAIT); return n == 8 })
		s.sayRecv("peek", v, 4, unix.MSG_PEEK)
		s.sayRecv("peek", v, 16, unix.MSG_PEEK)
		s.sayRecv("server", v, 16, 0)
		s.sayRecv("peek", v, 16, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}, Checks: "data stays until it is read"},
	{Name: "MSG_WAITALL", run: func(s *stage) {
		c, v := s.pair()
		b := s.blockedWaitAll(v, 10)
		s.put(c, []byte("01234"))
		s.say("with half it %s", b.still())
		s.put(c, []byte("56789"))
		b.say("recv")
	}, Checks: "returns with all that was asked for"},
	{Name: "MSG_WAITALL and EOF", run: func(s *stage) {
		c, v := s.pair()
		b := s.blockedWaitAll(v, 10)
		s.put(c, []byte("01234"))
		s.need(s.drop(c), "close")
		b.say("recv")
	}, Checks: "returns less at the end"},
	{Name: "MSG_TRUNC discards", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("discardkeep"))
		s.settled(func() bool { return s.unread(v) == 11 })
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(v), 0, 7, unix.MSG_TRUNC, 0, 0)
		if errno != 0 {
			s.say("discard %s", name(errno))
		} else {
			s.say("discard %d", n)
		}
		s.sayRecv("server", v, 16, 0)
	}, Checks: "recv with MSG_TRUNC and no buffer drops the bytes"},
	{Name: "readv", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("onetwothree"))
		s.settled(func() bool { return s.unread(v) == 11 })
		a, b := make([]byte, 3), make([]byte, 8)
		n, err := unix.Readv(v, [][]byte{a, b})
		s.say("readv %s %q %q", did(n, err), a, b)
	}, Checks: "into two buffers"},
	{Name: "recvmsg", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("message"))
		s.arrived(v)
		a, b := make([]byte, 2), make([]byte, 14)
		n, oob, flags, from, err := unix.RecvmsgBuffers(v, [][]byte{a, b}, make([]byte, 64), 0)
		s.say("recvmsg %s %q, %d bytes of control, flags %#x, from %v", did(n, err), string(a)+string(b[:max(n-2, 0)]), oob, flags, from != nil)
	}, Checks: "into two buffers, with room for control messages that do not come"},
	{Name: "FIONREAD", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("12345"))
		s.settled(func() bool { return s.unread(v) == 5 })
		s.say("%d", s.unread(v))
		s.sayRecv("server", v, 2, 0)
		s.say("%d", s.unread(v))
	}, Checks: "counts what is there to read"},
	{Name: "SO_RCVLOWAT with poll", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 8)
		s.put(c, []byte("1234"))
		s.settled(func() bool { return s.unread(v) == 4 })
		s.say("with 4 bytes %s", eventNames(s.pollFor(v, unix.POLLIN, 0)))
		s.put(c, []byte("5678"))
		s.say("with 8 bytes %s", s.poll(v, unix.POLLIN))
	}, Checks: "poll waits for as many bytes"},
	{Name: "SO_RCVLOWAT with recv", run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 8)
		b := s.blockedRecv(v)
		s.put(c, []byte("1234"))
		s.say("with 4 bytes it %s", b.still())
		s.put(c, []byte("5678"))
		b.say("recv")
	}, Checks: "recv waits for as many bytes"},
	{Name: "recv into memory that is not there", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("kept"))
		s.arrived(v)
		_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(v), 1, 4, 0, 0, 0)
		s.say("recv %s", name(errno))
		s.sayRecv("server", v, 16, 0)
	}, Checks: "EFAULT, and nothing is lost"},
	{Name: "SO_RCVTIMEO", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.SetsockoptTimeval(v, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 30000}), "set SO_RCVTIMEO")
		s.sayRecv("server", v, 16, 0)
		s.put(c, []byte("late"))
		s.arrived(v)
		s.sayRecv("server", v, 16, 0)
	}, Checks: "EAGAIN after the time, then data"},
	{Name: "MSG_DONTWAIT", run: func(s *stage) {
		c, v := s.pair()
		s.sayRecv("server", v, 16, unix.MSG_DONTWAIT)
		s.put(c, []byte("data"))
		s.arrived(v)
		s.sayRecv("server", v, 16, unix.MSG_DONTWAIT)
		s.sayRecv("server", v, 16, unix.MSG_DONTWAIT)
	}, Checks: "EAGAIN while there is nothing"},
	{Name: "read of nothing", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("data"))
		s.arrived(v)
		n, err := recv(v, nil, 0)
		s.say("recv of 0 bytes %s", did(n, err))
		s.saySend("client", c, "", 0)
		s.sayRecv("server", v, 16, 0)
	}, Checks: "reads and writes of no bytes change nothing"},
	{Name: "splice from the socket", Short: true, run: func(s *stage) {
		c, v := s.pair()
		r, w := s.pipe(0)
		s.put(c, []byte("through a pipe"))
		s.say("splice %s", did(splice(v, w, 64, 0)))
		p := make([]byte, 64)
		n, err := unix.Read(r, p)
		s.say("%s", received(p, n, err))
		s.need(s.drop(c), "close")
		s.say("then %s", did(splice(v, w, 64, 0)))
	}, Checks: "a blocking splice into a pipe, then EOF"},
	{Name: "splice from a non-blocking socket", Short: true, run: func(s *stage) {
		c, v := s.pair()
		r, w := s.pipe(unix.O_NONBLOCK)
		s.need(unix.SetNonblock(v, true), "set O_NONBLOCK")
		s.say("splice %s", did(splice(v, w, 64, unix.SPLICE_F_NONBLOCK)))
		s.put(c, []byte("through a pipe"))
		s.arrived(v)
		s.say("splice %s", did(splice(v, w, 64, unix.SPLICE_F_NONBLOCK)))
		p := make([]byte, 64)
		n, err := unix.Read(r, p)
		s.say("%s", received(p, n, err))
	}, Checks: "EAGAIN, then what poll announced"},
	{Name: "reads smaller than what came", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte(strings.Repeat("ab", 500)))
		var all strings.Builder
		for all.Len() < 1000 {
			all.Write(s.take(v, 1))
		}
		s.say("%s", equal(all.String() == strings.Repeat("ab", 500)))
	}, Checks: "1000 bytes, one for each read"},
}

func init() { inGroup("read", readRows) }

// blockedWaitAll begins a read that wants size bytes.
func (s *stage) blockedWaitAll(fd, size int) *blocked {
	return s.block(func() string {
		p := make([]byte, size)
		n, err := recv(fd, p, unix.MSG_WAITALL)
		return received(p, n, err)
	})
}

func splice(from, to, size, flags int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, size, flags)
		if err != unix.EINTR {
			return max(int(n), 0), err
		}
	}
}

func (s *stage) pipe(flags int) (r, w int) {
	var p [2]int
	s.need(unix.Pipe2(p[:], unix.O_CLOEXEC|flags), "make a pipe")
	return s.own(p[0]), s.own(p[1])
}
