package source

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReadFileWaitsForWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	check(t, err)
	if _, _, err := readFile(path, time.Now()); !errors.Is(err, errWriting) {
		t.Errorf("while it is open for writing: %v", err)
	}
	check(t, f.Close())
	if data, _, err := readFile(path, time.Now()); err != nil || len(data) > 0 {
		t.Errorf("after it was closed: %q, %v", data, err)
	}
	reader, err := os.Open(path)
	check(t, err)
	defer reader.Close()
	if _, _, err := readFile(path, time.Now()); err != nil {
		t.Errorf("while others read it: %v", err)
	}
}

// TestWithoutLeases: where there are none, as for a directory, time tells.
func TestWithoutLeases(t *testing.T) {
	f, err := os.Open(t.TempDir())
	check(t, err)
	defer f.Close()
	info, err := f.Stat()
	check(t, err)
	if !beingWritten(f, info, info.ModTime().Add(writeQuiet-time.Millisecond)) {
		t.Error("a fresh change counts as complete")
	}
	if beingWritten(f, info, info.ModTime().Add(writeQuiet)) {
		t.Error("an old change counts as incomplete")
	}
}
