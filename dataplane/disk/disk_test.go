package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/disk"
)

func TestWriteReplacesWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "pods")
	for _, contents := range []string{"first, and longer", "second"} {
		if err := disk.Write(path, []byte(contents)); err != nil {
			t.Fatal(err)
		}
		got, err := disk.Read(path, 100)
		if err != nil || string(got) != contents {
			t.Fatalf("read %q, %v; want %q", got, err, contents)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

// A crash between writing and renaming leaves the fresh file behind; it must
// neither be read nor be in the way, even when it is a link to somewhere else.
func TestWriteIgnoresLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pods")
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "untouched" {
		t.Fatalf("the link was followed: %q", got)
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pods")
	if err := disk.Write(path, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Read(path, 10); !errors.Is(err, disk.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if _, err := disk.Read(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := disk.Read(dir, 10); err == nil {
		t.Fatal("a directory was read as a file")
	}
	// Nobody writes to it: opening must not wait for that.
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Read(fifo, 10); err == nil {
		t.Fatal("a FIFO was read as a file")
	}
}
