package nettest

import "golang.org/x/sys/unix"

// Again makes a blocking system call until it is not interrupted. Go's runtime
// sends signals of its own, and a socket with a timeout (SO_SNDTIMEO,
// SO_RCVTIMEO) returns EINTR for them instead of being restarted.
func Again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Connect connects a blocking socket. A connect that a signal interrupts goes on
// by itself, so its outcome is waited for, and not asked for by another connect.
func Connect(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if err != unix.EINTR {
		return err
	}
	patience, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil {
		return err
	}
	wait := -1
	if ms := patience.Nano() / 1e6; ms > 0 {
		wait = int(ms)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	var ready int
	err = Again(func() (err error) { ready, err = unix.Poll(poll, wait); return })
	if err != nil {
		return err
	}
	if ready == 0 {
		return unix.EINPROGRESS // what the interrupted call would have said
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno == 0 {
		return err
	}
	return unix.Errno(errno)
}
