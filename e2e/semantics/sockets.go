package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/install/sandbox"
)

// makeSockets is the argument that makes this program a maker: a process inside
// a pod that makes sockets for the runner. The kernel takes a socket's network
// namespace and cgroup from the process that made it, so the runner's rows work
// with the pod's own sockets while they run in one process.
const makeSockets = "make-sockets"

// A request asks for a socket; the reply is an errno, and a descriptor when it
// is 0.
type request struct{ domain, kind, protocol int32 }

const requestSize = int(unsafe.Sizeof(request{}))

// serveSockets answers requests until the other side is gone.
func serveSockets(fd int) error {
	var r request
	for {
		n, err := unix.Read(fd, unsafe.Slice((*byte)(unsafe.Pointer(&r)), requestSize))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("read a request for a socket: %w", err)
		case n == 0:
			return nil
		}
		if err := reply(fd, r); err != nil {
			return fmt.Errorf("hand over a socket: %w", err)
		}
	}
}

func reply(fd int, r request) error {
	made, err := unix.Socket(int(r.domain), int(r.kind)|unix.SOCK_CLOEXEC, int(r.protocol))
	if err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
		return unix.Sendmsg(fd, []byte{byte(errno)}, nil, nil, 0)
	}
	defer unix.Close(made)
	return unix.Sendmsg(fd, []byte{0}, unix.UnixRights(made), nil, 0)
}

// A maker is the runner's side.
type maker struct {
	cmd *sandbox.Cmd

	mu sync.Mutex
	fd int
}

// startMaker starts a maker by a command in a pod.
func startMaker(command func(argv ...string) (*sandbox.Cmd, error)) (*maker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a channel to a pod: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "channel")
	defer theirs.Close()
	cmd, err := command(self, makeSockets)
	if err == nil {
		cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
		cmd.Stderr = os.Stderr
		err = cmd.Start()
	}
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return &maker{cmd: cmd, fd: pair[0]}, nil
}

// socket makes a socket in the pod. It may be called by several threads.
func (m *maker) socket(domain, kind, protocol int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := request{int32(domain), int32(kind), int32(protocol)}
	if err := again(func() error {
		return unix.Sendmsg(m.fd, unsafe.Slice((*byte)(unsafe.Pointer(&r)), requestSize), nil, nil, unix.MSG_NOSIGNAL)
	}); err != nil {
		return -1, fmt.Errorf("ask a pod for a socket: %w", err)
	}
	answer, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err := again(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(m.fd, answer, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	switch {
	case err != nil:
		return -1, fmt.Errorf("ask a pod for a socket: %w", err)
	case n == 0:
		return -1, errors.New("the process in the pod has ended")
	case answer[0] != 0:
		return -1, unix.Errno(answer[0])
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("a pod sent no socket (%w)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("a pod sent no socket (%w)", err)
	}
	return fds[0], nil
}

// close ends the process: it sees that nobody asks any more.
func (m *maker) close() error {
	unix.Close(m.fd)
	return m.cmd.Wait()
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
