package semantics

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// Many connections.
var manyRows = []Row{
	{Name: "200 short connections", Short: true, Limit: 20 * time.Second, run: func(s *stage) { s.connections(200) },
		Checks: "connect, 64 bytes there and back, close; client and server take turns in closing first"},
	{Name: "10000 short connections", Limit: 60 * time.Second, run: func(s *stage) { s.connections(10000) },
		Checks: "the same"},
	{Name: "2000 connections at once", Limit: 30 * time.Second, run: func(s *stage) {
		const count = 2000
		l := s.listen(4096)
		servers := make([]int, count)
		accepted := s.start(func() {
			for i := range servers {
				servers[i] = s.accept(l)
			}
		})
		clients := make([]int, count)
		for i := range clients {
			clients[i] = s.dial()
		}
		accepted.wait()
		p := make([]byte, 4)
		for i, c := range clients {
			binary.BigEndian.PutUint32(p, uint32(i))
			s.put(c, p)
		}
		for _, v := range servers {
			s.put(v, s.take(v, 4))
		}
		good := 0
		for i, c := range clients {
			if binary.BigEndian.Uint32(s.take(c, 4)) == uint32(i) {
				good++
			}
		}
		s.say("%d of %d", good, count)
	}, Checks: "all open, all answered on their own connection"},
	{Name: "a full backlog", Limit: 30 * time.Second, run: func(s *stage) {
		const count = 8
		l := s.listen(1)
		for range count {
			c := s.socket(s.ends.Client, unix.SOCK_NONBLOCK, nil)
			if err := s.connect(c); err != unix.EINPROGRESS {
				s.need(err, "connect")
			}
			s.start(func() {
				if s.pollFor(c, unix.POLLOUT, 25*time.Second) != 0 {
					s.put(c, []byte("hi"))
				}
			})
		}
		s.pause(50 * time.Millisecond) // more than the queue holds have come
		good := 0
		for range count {
			if string(s.take(s.accept(l), 2)) == "hi" {
				good++
			}
		}
		s.say("%d of %d", good, count)
	}, Checks: "8 connections to a backlog of 1: SYNs are sent again, all are served"},
	{Name: "SO_REUSEPORT", Limit: 20 * time.Second, run: func(s *stage) {
		reuse := with(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		const count = 200
		listeners := []int{s.listen(count, reuse), s.listen(count, reuse)}
		for range count {
			s.dial()
		}
		took := make([]int, len(listeners))
		s.settled(func() bool {
			for i, l := range listeners {
				for s.pollFor(l, unix.POLLIN, 0) != 0 {
					s.accept(l)
					took[i]++
				}
			}
			return took[0]+took[1] == count
		})
		s.say("%d of %d, both listeners have some: %v", took[0]+took[1], count, took[0] > 0 && took[1] > 0)
	}, Checks: "two listeners share 200 connections"},
}

func init() { inGroup("many", manyRows) }

// connections makes short connections, one after the other.
func (s *stage) connections(count int) {
	const size = 64
	l := s.listen(128)
	server := s.start(func() {
		for i := range count {
			v := s.accept(l)
			s.put(v, s.take(v, size))
			if i%2 == 0 {
				s.need(unix.Shutdown(v, unix.SHUT_WR), "shut down")
			}
			if n, err := recv(v, make([]byte, 1), 0); n != 0 || err != nil {
				s.say("server %s at the end", did(n, err))
			}
			s.need(s.drop(v), "close")
		}
	})
	good := 0
	p := random(size)
	for i := range count {
		c := s.dial()
		binary.BigEndian.PutUint32(p, uint32(i))
		s.put(c, p)
		ok := string(s.take(c, size)) == string(p)
		if i%2 != 0 {
			s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		}
		n, err := recv(c, make([]byte, 1), 0)
		if ok && n == 0 && err == nil {
			good++
		}
		s.need(s.drop(c), "close")
	}
	server.wait()
	s.say("%d of %d", good, count)
}
