package netns_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/nettest"
)

const forward = "ipv4/ip_forward"

// A container has /proc/sys read-only.
func TestSysctlOfAContainer(t *testing.T) {
	nettest.RequireRoot(t)
	here := read(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and the namespaces with it
		done <- inContainer(func() error { return netns.Sysctl(forward, "1") })
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if read(t) != here {
		t.Error("it was written in the caller's namespace")
	}
}

func read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/" + forward)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type wrong string

func (w wrong) Error() string { return string(w) }

// inContainer calls set in namespaces that see /proc/sys as containers do, and
// wants forwarding to be on then, which it was not.
func inContainer(set func() error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return err
	}
	for _, m := range []struct {
		target string
		flags  uintptr
	}{
		{"/", unix.MS_REC | unix.MS_PRIVATE},
		{"/proc/sys", unix.MS_BIND},
		{"/proc/sys", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
	} {
		if err := unix.Mount(m.target, m.target, "", m.flags, ""); err != nil {
			return err
		}
	}
	path := "/proc/sys/net/" + forward
	if err := os.WriteFile(path, []byte("0"), 0); err == nil {
		return wrong("/proc/sys is not read-only")
	}
	if err := set(); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(text)) != "1" {
		err = wrong("forwarding is " + string(text))
	}
	return err
}
