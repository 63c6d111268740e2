package peer

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// raw sends UDP datagrams with a source address of its own choice, past every
// hook on sockets. Connections counts those that the pod's own stack took; what
// became of them, the receiver and the counters of the interface know.
func raw(_ context.Context, args []string) (*Result, error) {
	fs := newFlags("raw")
	source := fs.String("source", "", "IPv4 source address")
	n := fs.Int("n", 1, "datagrams")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	from, err := netip.ParseAddr(*source)
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(fs.Arg(0))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var res Result
	for range *n {
		err := unix.Sendto(fd, datagram(from, to), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
		if err != nil {
			res.fail("sendto", err)
			continue
		}
		res.Connections++
	}
	return &res, nil
}

// datagram is an IPv4 and a UDP header and four bytes. The kernel fills in the
// lengths and the checksum of the IPv4 header; the UDP checksum may be zero.
func datagram(from netip.Addr, to netip.AddrPort) []byte {
	const payload = "who\n"
	p := make([]byte, 28, 28+len(payload))
	p[0] = 0x45
	p[8] = 64
	p[9] = unix.IPPROTO_UDP
	src, dst := from.As4(), to.Addr().As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], 40000)
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	return append(p, payload...)
}
