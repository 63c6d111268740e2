package semantics

import (
	"time"

	"golang.org/x/sys/unix"
)

// What event loops live by.
var eventRows = []Row{
	{Name: "edge-triggered epoll", Short: true, run: func(s *stage) {
		c, v := s.pair()
		e := s.epoll(v, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
		s.say("idle %s", s.event(e, 0))
		s.put(c, []byte("one"))
		s.say("data %s", s.event(e, 2*time.Second))
		s.say("again %s", s.event(e, 0))
		s.put(c, []byte("two"))
		s.say("more %s", s.event(e, 2*time.Second))
		s.say("server %q", s.take(v, 6))
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.say("FIN %s", s.event(e, 2*time.Second))
		s.say("again %s", s.event(e, 0))
	}, Checks: "an event for each arrival and for FIN (RDHUP), none without"},
	{Name: "edge-triggered epoll for room", Short: true, run: func(s *stage) {
		c, v := s.pair()
		e := s.epoll(c, unix.EPOLLOUT|unix.EPOLLET)
		s.say("at first %s", s.event(e, 2*time.Second))
		n := s.fill(c, 16*mib)
		for s.event(e, 0) != "none" { // events from before it was full
			n += s.fill(c, 16*mib)
		}
		s.drain(v, n)
		s.say("drained %s", s.event(e, 2*time.Second))
	}, Checks: "an event when a full connection has room again"},
	{Name: "epoll and RST", run: func(s *stage) {
		c, v := s.pair()
		e := s.epoll(v, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
		s.abort(c)
		s.say("%s", s.event(e, 2*time.Second))
	}, Checks: "the events of an RST"},
	{Name: "EPOLLONESHOT", run: func(s *stage) {
		c, v := s.pair()
		e := s.epoll(v, unix.EPOLLIN|unix.EPOLLONESHOT)
		s.put(c, []byte("one"))
		s.say("data %s", s.event(e, 2*time.Second))
		s.say("again %s", s.event(e, 0))
		s.need(unix.EpollCtl(e, unix.EPOLL_CTL_MOD, v, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(v)}), "change epoll")
		s.say("armed again %s", s.event(e, 2*time.Second))
	}, Checks: "one event until it is armed again, then at once: the data is still there"},
	{Name: "level-triggered epoll", run: func(s *stage) {
		c, v := s.pair()
		e := s.epoll(v, unix.EPOLLIN)
		s.put(c, []byte("one"))
		s.say("data %s", s.event(e, 2*time.Second))
		s.say("again %s", s.event(e, 0))
		s.say("server %q", s.take(v, 3))
		s.say("read %s", s.event(e, 0))
	}, Checks: "events while there is data"},
	{Name: "poll of an idle connection", run: func(s *stage) {
		c, v := s.pair()
		all := int16(unix.POLLIN | unix.POLLPRI | unix.POLLOUT | unix.POLLRDHUP)
		s.say("client %s", eventNames(s.pollFor(c, all, 0)))
		s.say("server %s", eventNames(s.pollFor(v, all, 0)))
	}, Checks: "writable, not readable"},
	{Name: "poll after close", run: func(s *stage) {
		c, v := s.pair()
		s.need(unix.Shutdown(v, unix.SHUT_WR), "shut down")
		s.need(unix.Shutdown(c, unix.SHUT_WR), "shut down")
		s.say("%s", s.settledEvents(c, unix.POLLHUP))
	}, Checks: "both directions have ended: HUP"},
	{Name: "non-blocking connect", run: func(s *stage) {
		l := s.listen(1)
		c := s.socket(s.ends.Client, unix.SOCK_NONBLOCK, nil)
		s.say("connect %s", outcome(s.connect(c)))
		s.say("poll %s", s.poll(c, unix.POLLOUT))
		s.say("SO_ERROR %d", s.get(c, unix.SOL_SOCKET, unix.SO_ERROR))
		s.say("connect again %s", outcome(s.connect(c)))
		v := s.accept(l)
		s.put(v, []byte("hello"))
		s.arrived(c)
		s.sayRecv("client", c, 16, 0)
	}, Checks: "EINPROGRESS, then writable without an error"},
	{Name: "non-blocking connect refused", run: func(s *stage) {
		l := s.listen(1)
		s.need(s.drop(l), "close the listener")
		c := s.socket(s.ends.Client, unix.SOCK_NONBLOCK, nil)
		s.say("connect %s", outcome(s.connect(c)))
		s.poll(c, unix.POLLOUT)
		s.say("SO_ERROR %s", name(unix.Errno(s.get(c, unix.SOL_SOCKET, unix.SO_ERROR))))
	}, Checks: "EINPROGRESS, then ECONNREFUSED"},
}

func init() { inGroup("event", eventRows) }

func (s *stage) epoll(fd int, events uint32) int {
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	s.need(err, "make an epoll")
	s.own(e)
	s.need(unix.EpollCtl(e, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}), "add to epoll")
	return e
}

// event waits for one event and returns its names.
func (s *stage) event(epoll int, limit time.Duration) string {
	events := make([]unix.EpollEvent, 1)
	for end := time.Now().Add(limit); ; {
		n, err := unix.EpollWait(epoll, events, int(max(time.Until(end), 0)/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		s.need(err, "wait for events")
		if n == 0 {
			return "none"
		}
		return eventNames(int16(events[0].Events))
	}
}
