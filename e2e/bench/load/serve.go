package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
)

// A Server answers on one port of all IPv4 addresses.
type Server struct {
	listener int
	shared   *loop
	Port     int
}

// backlog is more than clients ever open at once.
const backlog = 1024

// Listen opens the port, 0 for any, and answers with so many threads: as many
// connections are served at the same time. It goes on until the process ends:
// nothing can interrupt a thread in a raw call.
func Listen(port, threads int) (*Server, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	err = errors.Join(err, noDelay(fd), unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, backlog))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ask for the port: %w", err)
	}
	shared, err := newLoop()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &Server{fd, shared, sa.(*unix.SockaddrInet4).Port}
	go shared.reply()
	for range threads {
		go s.work()
	}
	return s, nil
}

// work serves one connection after the other.
func (s *Server) work() {
	runtime.LockOSThread()
	buf := make([]byte, BlockSize)
	for {
		fd, err := accept(s.listener)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return // the process is out of descriptors: its clients find out
		}
		// A client that went away, or sent what it should not, gets no reply, and
		// reports that.
		if s.answer(fd, buf) != errShared {
			closeSocket(fd)
		}
	}
}

// errShared says that the connection is the loop's now.
var errShared = errors.New("handed to the loop")

// answer serves a connection to its end.
func (s *Server) answer(fd int, buf []byte) error {
	m := buf[:MessageSize]
	for {
		if err := readFull(fd, m); err != nil {
			return err
		}
		switch m[0] {
		case askReply:
			if err := writeFull(fd, m); err != nil {
				return err
			}
		case askTogether:
			if err := writeFull(fd, m); err != nil {
				return err
			}
			if err := s.shared.add(fd, int32(fd)); err != nil {
				return err
			}
			return errShared
		case askLast:
			return writeFull(fd, m)
		case askSink:
			return sink(fd, buf)
		default:
			return fmt.Errorf("a message that begins with %q", m[0])
		}
	}
}

// sink swallows a stream and replies with its length.
func sink(fd int, buf []byte) error {
	var total int64
	for {
		n, err := read(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if !fits(buf[:n], total) {
			return fmt.Errorf("the stream is damaged near byte %d", total)
		}
		total += int64(n)
	}
	binary.LittleEndian.PutUint64(buf, uint64(total))
	return writeFull(fd, buf[:8])
}

// Serve is a server as a process: it says when it listens, and ends when in does.
func Serve(in io.Reader, out io.Writer, cpu, port, threads int) error {
	if err := Prepare(cpu, threads); err != nil {
		return err
	}
	s, err := Listen(port, threads)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening on %d\n", s.Port); err != nil {
		return fmt.Errorf("say that the server listens: %w", err)
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
