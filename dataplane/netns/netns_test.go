package netns_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/nettest"
)

const own = "/proc/thread-self/ns/net"

func current(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink(own)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	nettest.RequireRoot(t)
	ns := nettest.Netns(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := current(t)
	want := errors.New("fn's own error")
	var inside string
	err := netns.Do(ns.Path(), func() error {
		inside = current(t)
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("Do returned %v, want fn's error", err)
	}
	if inside == before {
		t.Error("fn ran in the caller's namespace")
	}
	if after := current(t); after != before {
		t.Errorf("the caller's thread is in %s, want %s", after, before)
	}
}

func TestDoNested(t *testing.T) {
	nettest.RequireRoot(t)
	a, b := nettest.Netns(t), nettest.Netns(t)
	a.Do(t, func() {
		before := current(t)
		b.Do(t, func() {
			if current(t) == before {
				t.Error("the inner fn ran in the outer namespace")
			}
		})
		if current(t) != before {
			t.Error("the outer fn continued in the inner namespace")
		}
	})
}

func TestDoEndsWithFn(t *testing.T) {
	nettest.RequireRoot(t)
	ns := nettest.Netns(t)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		_ = netns.Do(ns.Path(), func() error { runtime.Goexit(); return nil })
		ended <- false
	}()
	if _, returned := <-ended; returned {
		t.Error("Do returned although fn ended its goroutine")
	}
}

func TestCookie(t *testing.T) {
	nettest.RequireRoot(t)
	a, b := nettest.Netns(t), nettest.Netns(t)
	first, err := netns.Cookie(a.Path())
	if err != nil {
		t.Fatal(err)
	}
	again, err := netns.Cookie(a.Path())
	if err != nil {
		t.Fatal(err)
	}
	other, err := netns.Cookie(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	if first == 0 || first != again || first == other {
		t.Errorf("cookies %d, %d again, %d of another namespace", first, again, other)
	}
	var seen uint64
	a.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if seen, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
			t.Fatal(err)
		}
	})
	if seen != first {
		t.Errorf("a socket in the namespace has cookie %d, want %d", seen, first)
	}
}

func TestErrorsNameThePath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody writes to it: opening must not wait for that.
	fifo := file + ".fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".missing", fifo} {
		_, err := netns.Cookie(path)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Cookie(%s) = %v, want an error with the path", path, err)
		}
	}
}
