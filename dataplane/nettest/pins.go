package nettest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Pins mounts a bpffs that belongs to the test alone and returns its path.
// Whatever is pinned in it is released when the test ends.
func Pins(t testing.TB) string {
	t.Helper()
	for _, dir := range leftovers(os.TempDir()) {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	}
	dir := filepath.Join(os.TempDir(), uniqueName())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatalf("create mount point: %v", err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		_ = os.Remove(dir)
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount test bpffs: %v", err)
		}
		if err := os.Remove(dir); err != nil {
			t.Errorf("remove mount point: %v", err)
		}
	})
	return dir
}
