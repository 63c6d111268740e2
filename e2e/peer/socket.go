package peer

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// timeout bounds every connect, read and write: a connection that takes longer
// has failed.
const timeout = 10 * time.Second

// A socket is a blocking one of plain system calls: no event loop between the
// client and the kernel, and the errors are those the application sees.
type socket struct {
	fd     int
	family int
	to     netip.AddrPort
}

type socketOptions struct {
	udp    bool
	device string // SO_BINDTODEVICE
	mapped bool   // an AF_INET6 socket for an IPv4 address
}

func open(to netip.AddrPort, o socketOptions) (*socket, error) {
	family, kind := unix.AF_INET6, unix.SOCK_STREAM
	if to.Addr().Is4() && !o.mapped {
		family = unix.AF_INET
	}
	if o.udp {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	tv := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if o.device != "" {
		if err := unix.BindToDevice(fd, o.device); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return &socket{fd, family, to}, nil
}

func (s *socket) address() unix.Sockaddr {
	if s.family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(s.to.Port()), Addr: s.to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(s.to.Port()), Addr: s.to.Addr().As16()}
}

func (s *socket) connect() error {
	return retry(func() error { return unix.Connect(s.fd, s.address()) })
}

// line reads up to the end of a line.
func (s *socket) line(buf []byte) (string, error) {
	n := 0
	for n < len(buf) {
		var got int
		err := retry(func() (err error) { got, err = unix.Read(s.fd, buf[n:]); return })
		if err != nil {
			return "", err
		}
		if got == 0 {
			return "", fmt.Errorf("end of stream")
		}
		n += got
		if buf[n-1] == '\n' {
			return string(buf[:n-1]), nil
		}
	}
	return "", fmt.Errorf("line too long")
}

func (s *socket) write(b []byte) error {
	return retry(func() error { _, err := unix.Write(s.fd, b); return err })
}

// reset closes without TIME_WAIT, so that a hundred thousand connections do
// not run out of ports.
func (s *socket) reset() {
	unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(s.fd)
}

func (s *socket) close() { unix.Close(s.fd) }

// peer is getpeername as text.
func (s *socket) peer() string {
	sa, err := unix.Getpeername(s.fd)
	if err != nil {
		return "error " + err.Error()
	}
	return addrPort(sa).String()
}

// original is SO_ORIGINAL_DST as text. Without a mesh (or NAT) there is none.
func (s *socket) original() string {
	level, option := unix.SOL_IP, 80
	if s.family == unix.AF_INET6 && !s.to.Addr().Is4() {
		level = unix.SOL_IPV6
	}
	var raw unix.RawSockaddrInet6 // the larger of the two
	size := uint32(unsafe.Sizeof(raw))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return "error " + unix.ErrnoName(errno)
	}
	port := uint16(raw.Port>>8 | raw.Port<<8)
	if raw.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), port).String()
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// retry repeats a system call that Go's own signals interrupted. A connect that
// was interrupted goes on by itself, and says so to the second call.
func retry(call func() error) error {
	for {
		err := call()
		if err != unix.EINTR {
			if err == unix.EISCONN {
				return nil
			}
			return err
		}
	}
}
