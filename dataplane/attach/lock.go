package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by the errors of Open and Remove when another process
// works on the same pins.
var ErrLocked = errors.New("the pins are in use by another agent")

// lockPins takes the pins directory for this process until the file is closed
// or the process ends. bpffs has no regular files; the directory itself is the
// lock.
func lockPins(dir string) (*os.File, error) {
	for {
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("lock pins: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w: %s is held by %s; stop it first, or choose another pins directory", ErrLocked, dir, holder(f))
			}
			return nil, fmt.Errorf("lock pins directory %s: %w", dir, err)
		}
		if stillThere(f, dir) {
			return f, nil
		}
		// Removed between open and flock: the lock protects nothing.
		f.Close()
	}
}

// awaitEvery is how often Await looks: what the successor of an agent loses
// between that one's end and its own beginning.
const awaitEvery = 20 * time.Millisecond

// Await returns when nobody works on the pins, or ctx ends. It takes nothing:
// somebody else may be faster with what follows.
func Await(ctx context.Context, dir string) error {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		f, err := lockPins(dir)
		switch {
		case err == nil:
			return f.Close()
		case errors.Is(err, os.ErrNotExist):
			return nil
		case !errors.Is(err, ErrLocked):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func stillThere(f *os.File, dir string) bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(dir)
	return err == nil && os.SameFile(locked, now)
}

// holder names the process that holds the lock on f, as far as the kernel
// tells.
func holder(f *os.File) string {
	const unknown = "another process"
	var st unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return unknown
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE 1234 00:2b:5678 0 EOF
		if w := strings.Fields(line); len(w) > 5 && w[1] == "FLOCK" && w[5] == inode {
			return "pid " + w[4]
		}
	}
	return unknown
}
