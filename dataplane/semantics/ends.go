package semantics

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
)

// The ports that servers listen on: rows take turns, so that what one leaves in
// TIME_WAIT is not in the way of the next.
const (
	FirstPort = 20000
	Ports     = 16
)

// A Place is where one side of a row's connections lives.
type Place struct {
	// Netns is the path of its network namespace, for example /proc/PID/ns/net.
	Netns string
	// Addr is its address there.
	Addr netip.Addr
	// Socket makes a socket of the place; nil: in Netns, in the cgroup of this
	// process. Set it where programs of the cgroup matter: the kernel runs those
	// of the process that made the socket.
	Socket func(domain, kind, protocol int) (fd int, err error)
}

// Ends are the two sides of a row's connections.
type Ends struct {
	Client, Server Place
	// Dial is what the client connects to; the zero value: the server's address.
	// With a service address, each of the ports must lead to the same port of
	// the server.
	Dial netip.Addr
}

func (e Ends) target() netip.Addr {
	if e.Dial.IsValid() {
		return e.Dial
	}
	return e.Server.Addr
}

// v6 reports the family of the connections.
func (e Ends) v6() bool { return e.target().Is6() }

// socket makes a stream socket of a place, of a protocol.
func (e Ends) socket(p Place, protocol, flags int) (fd int, err error) {
	domain := unix.AF_INET
	if e.v6() {
		domain = unix.AF_INET6
	}
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC | flags
	if p.Socket != nil {
		return p.Socket(domain, kind, protocol)
	}
	err = netns.Do(p.Netns, func() error {
		fd, err = unix.Socket(domain, kind, protocol)
		return err
	})
	return fd, err
}

// sysctl writes a value below /proc/sys/net of the place.
func (p Place) sysctl(name, value string) error {
	return netns.Do(p.Netns, func() error { return netns.Sysctl(name, value) })
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
}

// addrPort is the address and port of a socket address; the zero value for
// anything but IPv4 and IPv6.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
