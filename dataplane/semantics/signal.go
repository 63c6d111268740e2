package semantics

import (
	"os"
	"os/signal"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poke is a real-time signal that nothing else in the process uses.
const poke = unix.Signal(40)

// sigaction is the kernel's structure of signal handlers.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

const saRestart = 0x10000000

// interruptible makes the signal poke interrupt system calls (restart: be
// restarted after it) until the returned function is called. The handler is
// Go's own, which does nothing here but wake a channel; only the flag changes,
// and for this signal alone.
func (s *stage) interruptible(restart bool) (undo func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, poke)
	var act sigaction
	s.need(rtSigaction(poke, nil, &act), "read a signal's handler")
	before := act
	act.flags &^= saRestart
	if restart {
		act.flags |= saRestart
	}
	s.need(rtSigaction(poke, &act, nil), "set a signal's handler")
	return func() {
		_ = rtSigaction(poke, &before, nil) // it was possible a moment ago
		signal.Stop(c)
	}
}

func rtSigaction(sig unix.Signal, set, get *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// signal pokes the blocked thread.
func (b *blocked) signal() {
	b.s.need(unix.Tgkill(os.Getpid(), b.tid, poke), "send a signal")
}

// sendWithSignal sends without MSG_NOSIGNAL and says whether SIGPIPE is pending
// then. The signal is blocked meanwhile and taken back.
func (s *stage) sendWithSignal(fd int) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var pipe, before unix.Sigset_t
	pipe.Val[0] = 1 << (unix.SIGPIPE - 1)
	s.need(unix.PthreadSigmask(unix.SIG_BLOCK, &pipe, &before), "block SIGPIPE")
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()

	n, err := unix.SendmsgN(fd, []byte("data"), nil, nil, 0)
	said := did(n, err)
	var none unix.Timespec
	taken, _, _ := unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&pipe)), 0, uintptr(unsafe.Pointer(&none)), 8, 0, 0)
	if unix.Signal(taken) == unix.SIGPIPE {
		return said + " with SIGPIPE"
	}
	return said
}

// disconnect connects to AF_UNSPEC.
func disconnect(fd int) error {
	var sa unix.RawSockaddr
	sa.Family = unix.AF_UNSPEC
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}
