package semantics

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

var bulkRows = []Row{
	{Name: "bulk to the server", Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		s.say("%s", s.bulk(c, v, 4*mib, 64<<10).text())
	}, Checks: "4 MiB, writes and reads of random sizes, count and checksum"},
	{Name: "bulk to the client", Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		s.say("%s", s.bulk(v, c, 4*mib, 64<<10).text())
	}, Checks: "the same, the server sends"},
	{Name: "bulk both ways", Short: true, Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		up, down := s.bulk(c, v, 4*mib, 64<<10), s.bulk(v, c, 4*mib, 64<<10)
		s.say("up %s", up.text())
		s.say("down %s", down.text())
	}, Checks: "the same, both send at once"},
	{Name: "bulk 64 MiB both ways", Limit: 30 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		up, down := s.bulk(c, v, 64*mib, 256<<10), s.bulk(v, c, 64*mib, 256<<10)
		s.say("up %s", up.text())
		s.say("down %s", down.text())
	}, Checks: "64 MiB each way at once, writes of up to 256 KiB"},
	{Name: "one write of 4 MiB", Short: true, Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		p := random(4 * mib)
		sent := s.start(func() { s.say("send %s", did(send(c, p, 0))) })
		got := s.take(v, len(p))
		sent.wait()
		s.say("checksum %s", equal(crc32.ChecksumIEEE(got) == crc32.ChecksumIEEE(p)))
	}, Checks: "a write of more than any segment that the kernel makes"},
	{Name: "10000 writes of one byte", Limit: 20 * time.Second, run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		p := random(10000)
		s.start(func() {
			for i := range p {
				s.put(c, p[i:i+1])
			}
		})
		s.say("checksum %s", equal(crc32.ChecksumIEEE(s.take(v, len(p))) == crc32.ChecksumIEEE(p)))
	}, Checks: "with TCP_NODELAY: each write may be a packet"},
	{Name: "bulk through a small receive buffer", Limit: 30 * time.Second, run: func(s *stage) {
		l := s.listen(1, with(unix.SOL_SOCKET, unix.SO_RCVBUF, 8192))
		c := s.dial()
		v := s.accept(l)
		s.say("%s", s.bulk(c, v, 512<<10, 16<<10).text())
	}, Checks: "512 KiB into an SO_RCVBUF of 8 KiB"},
	{Name: "1000 requests and replies", Limit: 20 * time.Second, run: func(s *stage) {
		s.exchange(1000, 1024)
	}, Checks: "1 KiB there and back on one connection"},
	{Name: "200 requests and replies", Short: true, run: func(s *stage) {
		s.exchange(200, 100)
	}, Checks: "100 bytes there and back on one connection"},
	{Name: "io.Copy between two connections", Limit: 20 * time.Second, run: relay,
		Checks: "Go's io.Copy, which splices: the server relays between two connections, both ways"},
}

func init() {
	inGroup("bulk", bulkRows)
}

// inGroup gives the rows of a file their group.
func inGroup(group string, rows []Row) {
	for i := range rows {
		rows[i].Group = group
	}
}

func random(size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(p) // never fails
	return p
}

func equal(ok bool) string {
	if ok {
		return "equal"
	}
	return "DIFFERS"
}

// A transfer is bytes on their way from one socket to another.
type transfer struct {
	sender, receiver *task
	size             int
	got              int
	sent, received   uint32 // checksums
}

// bulk sends size random bytes, in writes and reads of up to most.
func (s *stage) bulk(from, to, size, most int) *transfer {
	t := &transfer{size: size}
	t.sender = s.start(func() {
		sizes, data := rand.New(rand.NewPCG(1, 2)), rand.NewChaCha8([32]byte{byte(from)})
		p := make([]byte, most)
		for left := size; left > 0; {
			part := p[:min(1+sizes.IntN(most), left)]
			_, _ = data.Read(part) // never fails
			t.sent = crc32.Update(t.sent, crc32.IEEETable, part)
			s.put(from, part)
			left -= len(part)
		}
	})
	t.receiver = s.start(func() {
		sizes := rand.New(rand.NewPCG(3, 4))
		p := make([]byte, most)
		for t.got < size {
			n, err := recv(to, p[:min(1+sizes.IntN(most), size-t.got)], 0)
			s.need(err, fmt.Sprintf("receive byte %d", t.got))
			if n == 0 {
				return
			}
			t.received = crc32.Update(t.received, crc32.IEEETable, p[:n])
			t.got += n
		}
	})
	return t
}

// text waits for the end and is the outcome.
func (t *transfer) text() string {
	t.sender.wait()
	t.receiver.wait()
	return fmt.Sprintf("%d of %d bytes, checksum %s", t.got, t.size, equal(t.sent == t.received))
}

// exchange sends requests that the server returns.
func (s *stage) exchange(count, size int) {
	c, v := s.pair()
	s.set(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	s.set(v, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	s.start(func() {
		for range count {
			s.put(v, s.take(v, size))
		}
	})
	p, good := random(size), 0
	for i := range count {
		p[0], p[1] = byte(i), byte(i>>8)
		s.put(c, p)
		if string(s.take(c, size)) == string(p) {
			good++
		}
	}
	s.say("%d of %d replies", good, count)
}

// relay lets the server copy between two connections of the client.
func relay(s *stage) {
	l := s.listen(16)
	c1 := s.dial()
	v1 := s.goConn(s.accept(l))
	c2 := s.dial()
	v2 := s.goConn(s.accept(l))
	copying := func(to, from *net.TCPConn) *task {
		return s.start(func() {
			_, err := io.Copy(to, from)
			s.need(err, "copy")
			s.need(to.CloseWrite(), "shut down")
		})
	}
	there, back := copying(v2, v1), copying(v1, v2)
	up, down := s.bulk(c1, c2, 4*mib, 64<<10), s.bulk(c2, c1, 4*mib, 64<<10)
	s.say("up %s", up.text())
	s.say("down %s", down.text())
	s.need(unix.Shutdown(c1, unix.SHUT_WR), "shut down")
	s.sayRecv("the far side", c2, 1, 0)
	s.need(unix.Shutdown(c2, unix.SHUT_WR), "shut down")
	s.sayRecv("the near side", c1, 1, 0)
	there.wait()
	back.wait()
}

// goConn is a connection of package net, with a descriptor of its own.
func (s *stage) goConn(fd int) *net.TCPConn {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	s.need(err, "duplicate")
	f := os.NewFile(uintptr(dup), "connection")
	conn, err := net.FileConn(f)
	_ = f.Close()
	s.need(err, "make a connection of")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn)
	return conn.(*net.TCPConn)
}
