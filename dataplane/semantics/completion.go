package semantics

import (
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel reports about bytes that were written.
var completionRows = []Row{
	{Name: "MSG_ZEROCOPY", Short: true, run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)
		p := random(64 << 10)
		sent := s.start(func() {
			n, err := send(c, p, unix.MSG_ZEROCOPY)
			s.say("send %s", did(n, err))
		})
		got := s.take(v, len(p))
		sent.wait()
		s.say("checksum %s", equal(string(got) == string(p)))
		e := s.report(c, unix.SO_EE_ORIGIN_ZEROCOPY)
		if e == nil {
			s.say("no completion")
			return
		}
		s.say("completion of %d to %d, code %d", e.Info, e.Data, e.Code)
	}, Checks: "the completion arrives, and says whether the kernel copied (code 1)"},
	{Name: "timestamps of sending", run: func(s *stage) {
		c, v := s.pair()
		s.set(c, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SCHED|unix.SOF_TIMESTAMPING_TX_SOFTWARE|
			unix.SOF_TIMESTAMPING_TX_ACK|unix.SOF_TIMESTAMPING_SOFTWARE|unix.SOF_TIMESTAMPING_OPT_ID|unix.SOF_TIMESTAMPING_OPT_TSONLY)
		s.put(c, []byte("when"))
		s.say("server %q", s.take(v, 4))
		var kinds []string
		s.settled(func() bool {
			for e := s.message(c); e != nil; e = s.message(c) {
				if e.Origin == unix.SO_EE_ORIGIN_TIMESTAMPING && e.Info < 3 {
					kinds = append(kinds, []string{"SND", "SCHED", "ACK"}[e.Info])
				}
			}
			return len(kinds) == 3
		})
		slices.Sort(kinds)
		s.say("%s", strings.Join(kinds, " "))
	}, Checks: "SO_TIMESTAMPING: scheduled, sent and acknowledged"},
	{Name: "TCP_INFO counts bytes", Short: true, run: func(s *stage) {
		c, v := s.pair()
		before := s.info(c)
		s.put(c, []byte("12345"))
		s.put(v, s.take(v, 5)[:3])
		s.take(c, 3)
		var i *unix.TCPInfo
		s.settled(func() bool { i = s.info(c); return i.Bytes_acked-before.Bytes_acked == 5 })
		s.say("client sent %d, acknowledged %d, received %d", i.Bytes_sent-i.Bytes_retrans, i.Bytes_acked-before.Bytes_acked, i.Bytes_received)
		j := s.info(v)
		s.say("server sent %d, received %d", j.Bytes_sent-j.Bytes_retrans, j.Bytes_received)
		s.say("segments are counted: %v", i.Segs_out > before.Segs_out && i.Data_segs_out > 0 && j.Data_segs_in > 0)
	}, Checks: "bytes sent, acknowledged and received, on both sides"},
	{Name: "TCP_INFO sees a slow reader", run: func(s *stage) {
		c, _ := s.pair()
		s.fill(c, 16*mib)
		i := s.info(c)
		s.say("not sent yet: %v", i.Notsent_bytes > 0)
		s.say("limited by the receiver's window: %v", s.settled(func() bool { return s.info(c).Rwnd_limited > 0 }))
	}, Checks: "bytes that wait, and why"},
}

func init() { inGroup("completion", completionRows) }

// report waits for a message of that origin in the error queue; nil: none.
func (s *stage) report(fd int, origin uint8) (e *unix.SockExtendedErr) {
	s.settled(func() bool {
		e = s.message(fd)
		return e != nil && e.Origin == origin
	})
	return e
}

// message takes a message out of the error queue; nil: it is empty.
func (s *stage) message(fd int) *unix.SockExtendedErr {
	oob := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 16), oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	s.need(err, "read the error queue")
	data := find(oob[:n], unix.SOL_IP, unix.IP_RECVERR)
	if data == nil {
		data = find(oob[:n], unix.SOL_IPV6, unix.IPV6_RECVERR)
	}
	if len(data) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
		return nil
	}
	e := *(*unix.SockExtendedErr)(unsafe.Pointer(&data[0]))
	return &e
}
