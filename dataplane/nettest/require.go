package nettest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// RequireBPF skips the test, with the reason, when the process is not root or
// the kernel is below Heddle's floor. Everything else a BPF test needs must be
// there: what is missing then fails the test that misses it, so that a broken
// test machine never looks like a green one.
func RequireBPF(t testing.TB) {
	t.Helper()
	RequireRoot(t)
	major, minor := kernelVersion(t)
	if major < 5 || major == 5 && minor < 15 {
		t.Skipf("left out: kernel %d.%d is below the floor of 5.15", major, minor)
	}
}

// RequireRoot skips the test, with the reason, when the process is not root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root, to create namespaces, cgroups and BPF objects; run the test as root")
	}
}

func kernelVersion(t testing.TB) (major, minor int) {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatalf("uname: %v", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		t.Fatalf("parse kernel release %q: %v", release, err)
	}
	return major, minor
}
