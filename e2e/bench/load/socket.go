package load

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errEnd is the orderly end of a connection before the first byte.
var errEnd = errors.New("end of stream")

// call is a system call that the scheduler does not see.
func call(name string, trap, a, b, c uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, a, b, c)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN: // these sockets wait; a bypassed one says so all the same
		default:
			return 0, fmt.Errorf("%s: %s", name, unix.ErrnoName(errno))
		}
	}
}

func read(fd int, b []byte) (int, error) {
	return call("read", unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}

// readFull reads until the slice is full. An end before the first byte is
// errEnd, one in the middle another error.
func readFull(fd int, b []byte) error {
	for n := 0; n < len(b); {
		got, err := read(fd, b[n:])
		switch {
		case err != nil:
			return err
		case got == 0 && n == 0:
			return errEnd
		case got == 0:
			return fmt.Errorf("the stream ended after %d of %d bytes", n, len(b))
		}
		n += got
	}
	return nil
}

// readEnd expects the orderly end of a connection.
func readEnd(fd int) error {
	var b [1]byte
	n, err := read(fd, b[:])
	if err == nil && n != 0 {
		err = errors.New("the peer sent more than it should")
	}
	return err
}

func writeFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := call("write", unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func closeSocket(fd int) { _, _ = call("close", unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// dial connects to an IPv4 address.
func dial(to *unix.RawSockaddrInet4) (int, error) {
	fd, err := call("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_, err = call("connect", unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unsafe.Sizeof(*to))
	if err != nil {
		closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

func accept(listener int) (int, error) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// rawAddress is an IPv4 address as the kernel takes it.
func rawAddress(text string) (*unix.RawSockaddrInet4, error) {
	a, err := netip.ParseAddrPort(text)
	if err == nil && !a.Addr().Is4() {
		err = errors.New("give an IPv4 address")
	}
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", text, err)
	}
	port := a.Port()
	return &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port<<8 | port>>8, Addr: a.Addr().As4()}, nil
}

// noDelay sends each write at once; a listener hands it on to what it accepts.
func noDelay(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	return nil
}
