package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrTooLarge is returned by Read for a file above its limit.
var ErrTooLarge = errors.New("file is larger than the limit")

// Write replaces the file at path by data, mode 0600, and returns when it is
// on the disk. Two writers of one path must not run at the same time.
func Write(path string, data []byte) error {
	if err := Put(path, data); err != nil {
		return err
	}
	return Sync(path)
}

// Put is Write without the wait: what it wrote outlives the process at once,
// but only after Sync a loss of power. A reader sees the old contents or the
// new ones, never a mixture.
func Put(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("creating the state directory: %w", err)
	}
	// One fixed name: what a crash left behind is overwritten by the next
	// write instead of piling up.
	fresh := path + ".new"
	if err := create(fresh, data); err != nil {
		return fmt.Errorf("writing %s: %w", fresh, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return nil
}

func create(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// O_EXCL: never through a symbolic link that someone left here.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Sync waits until the file at path, and its name, are on the disk.
func Sync(path string) error {
	for _, name := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("syncing: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("syncing %s: %w", name, err)
		}
	}
	return nil
}

// Read returns the contents of the file at path, at most limit bytes. A
// missing file is fs.ErrNotExist, a larger one ErrTooLarge.
func Read(path string, limit int64) ([]byte, error) {
	// A FIFO must not make the agent wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	// The limit holds again while reading: the file may be growing.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(path, limit)
	}
	return data, nil
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s: %w of %d bytes", path, ErrTooLarge, limit)
}
