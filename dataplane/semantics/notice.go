package semantics

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// What comes beside the data: urgent bytes, control messages.
var noticeRows = []Row{
	{Name: "urgent data", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("ab"))
		s.saySend("client", c, "!", unix.MSG_OOB)
		s.put(c, []byte("cd"))
		s.say("poll %s", s.poll(v, unix.POLLPRI))
		s.sayRecv("urgent", v, 1, unix.MSG_OOB)
		s.sayRecv("server", v, 16, 0)
		s.say("at the mark %d", s.ioctl(v, unix.SIOCATMARK, "read SIOCATMARK"))
		s.arrived(v)
		s.sayRecv("server", v, 16, 0)
		s.say("at the mark %d", s.ioctl(v, unix.SIOCATMARK, "read SIOCATMARK"))
	}, Checks: "MSG_OOB is announced, read apart, and marks its place in the stream"},
	{Name: "urgent data to the client", run: func(s *stage) {
		c, v := s.pair()
		s.saySend("server", v, "!", unix.MSG_OOB)
		s.say("poll %s", s.poll(c, unix.POLLPRI))
		s.sayRecv("urgent", c, 1, unix.MSG_OOB)
		s.sayRecv("urgent", c, 1, unix.MSG_OOB)
	}, Checks: "the same, the server sends; it is there once"},
	{Name: "SO_OOBINLINE", run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		s.put(c, []byte("ab"))
		s.saySend("client", c, "!", unix.MSG_OOB)
		s.put(c, []byte("cd"))
		s.poll(v, unix.POLLPRI)
		s.say("server %q", s.take(v, 2))
		s.say("at the mark %d", s.ioctl(v, unix.SIOCATMARK, "read SIOCATMARK"))
		s.say("server %q", s.take(v, 3))
	}, Checks: "urgent data stays in the stream, at its mark"},
	{Name: "no urgent data", run: func(s *stage) {
		c, v := s.pair()
		s.put(c, []byte("ab"))
		s.arrived(v)
		s.sayRecv("urgent", v, 1, unix.MSG_OOB)
	}, Checks: "MSG_OOB where none came"},
	{Name: "SO_TIMESTAMPNS", run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		s.say("a time arrives: %v", s.control(c, v, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS) != nil)
	}, Checks: "the time of arrival comes with the data (the kernel takes a moment to begin)"},
	{Name: "SO_TIMESTAMPING of arrivals", run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE)
		s.say("a time arrives: %v", s.control(c, v, unix.SOL_SOCKET, unix.SO_TIMESTAMPING) != nil)
	}, Checks: "the same by SO_TIMESTAMPING"},
	{Name: "TCP_INQ", run: func(s *stage) {
		c, v := s.pair()
		s.set(v, unix.IPPROTO_TCP, unix.TCP_INQ, 1)
		s.put(c, []byte("0123456789"))
		s.settled(func() bool { return s.unread(v) == 10 })
		p, oob := make([]byte, 4), make([]byte, 64)
		n, oobn, _, _, err := unix.Recvmsg(v, p, oob, 0)
		s.say("recvmsg %s", received(p, n, err))
		if data := find(oob[:oobn], unix.IPPROTO_TCP, unix.TCP_CM_INQ); len(data) >= 4 {
			s.say("%d left", binary.NativeEndian.Uint32(data))
		}
	}, Checks: "the control message that says how much is left"},
}

func init() { inGroup("notice", noticeRows) }

// control sends bytes until one arrives with a control message of that type,
// for two seconds at most; nil: none did.
func (s *stage) control(from, to, level, kind int) (data []byte) {
	s.settled(func() bool {
		s.put(from, []byte("t"))
		p, oob := make([]byte, 1), make([]byte, 256)
		_, n, _, _, err := unix.Recvmsg(to, p, oob, 0)
		if err != nil && err != unix.EINTR {
			s.need(err, "receive a message")
		}
		data = find(oob[:max(n, 0)], level, kind)
		return data != nil
	})
	return data
}

// find returns the data of a control message, nil: there is none.
func find(oob []byte, level, kind int) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if int(m.Header.Level) == level && int(m.Header.Type) == kind {
			return m.Data
		}
	}
	return nil
}
