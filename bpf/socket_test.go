package bpf_test

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// socket is a file descriptor that is closed when the test ends.
type socket int

func open(t *testing.T, domain, kind int) socket {
	t.Helper()
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := socket(fd)
	t.Cleanup(func() { unix.Close(fd) })
	// A broken hook must fail the test, not hang it.
	patience := unix.Timeval{Sec: 3}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &patience); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// close closes the socket now. Its number stays taken, by another file, until
// the test ends.
func (s socket) close(t *testing.T) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, int(s), unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// serve opens a bound socket, listening when it is one for TCP.
func serve(t *testing.T, domain, kind int, addr string) (socket, netip.AddrPort) {
	t.Helper()
	s := open(t, domain, kind)
	if err := unix.Bind(int(s), sockaddr(domain, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))); err != nil {
		t.Fatalf("bind %s: %v", addr, err)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(int(s), 16); err != nil {
			t.Fatal(err)
		}
	}
	name, err := unix.Getsockname(int(s))
	if err != nil {
		t.Fatal(err)
	}
	at := addrPort(name)
	return s, netip.AddrPortFrom(netip.MustParseAddr(addr).Unmap(), at.Port())
}

func (s socket) connect(domain int, to string) error {
	return nettest.Connect(int(s), sockaddr(domain, netip.MustParseAddrPort(to)))
}

func (s socket) peer(t *testing.T) netip.AddrPort {
	t.Helper()
	name, err := unix.Getpeername(int(s))
	if err != nil {
		t.Fatalf("getpeername: %v", err)
	}
	return addrPort(name)
}

func (s socket) accept(t *testing.T) (socket, netip.AddrPort) {
	t.Helper()
	var fd int
	var name unix.Sockaddr
	err := nettest.Again(func() (err error) { fd, name, err = unix.Accept4(int(s), unix.SOCK_CLOEXEC); return })
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return socket(fd), addrPort(name)
}

// receive takes one datagram and returns where it came from.
func (s socket) receive(p []byte) (from unix.Sockaddr, err error) {
	err = nettest.Again(func() (err error) { _, from, err = unix.Recvfrom(int(s), p, 0); return })
	return from, err
}

// originalDst asks as a proxy does, in the family of the address it expects.
func (s socket) originalDst(family int) (netip.AddrPort, error) {
	level := unix.SOL_IP
	if family == unix.AF_INET6 {
		level = unix.SOL_IPV6
	}
	var raw unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(raw))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), uintptr(level), unix.SO_ORIGINAL_DST,
		uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	if raw.Family == unix.AF_INET {
		raw4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		return netip.AddrPortFrom(netip.AddrFrom4(raw4.Addr), bpf.Port(raw4.Port)), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr), bpf.Port(raw.Port)), nil
}

func sockaddr(domain int, to netip.AddrPort) unix.Sockaddr {
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

func addrPort(name unix.Sockaddr) netip.AddrPort {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port))
	}
	return netip.AddrPort{}
}

func domainOf(addr string) int {
	if netip.MustParseAddr(addr).Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// mapped returns an address as a socket of that domain has to write it.
func mapped(domain int, to string) string {
	at := netip.MustParseAddrPort(to)
	return netip.AddrPortFrom(netip.MustParseAddr(mappedAddr(domain, at.Addr().String())), at.Port()).String()
}

func mappedAddr(domain int, addr string) string {
	ip := netip.MustParseAddr(addr)
	if domain == unix.AF_INET6 {
		ip = netip.AddrFrom16(ip.As16())
	}
	return ip.String()
}
