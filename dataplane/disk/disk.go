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
	f, err := Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", f.Name(), err)
	}
	return Rename(path)
}

// Create returns an empty file, mode 0600, that Rename puts in the place of the
// one at path.
func Create(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating the state directory: %w", err)
	}
	// One fixed name: what a crash left behind is overwritten by the next
	// write instead of piling up.
	fresh := fresh(path)
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("writing %s: %w", fresh, err)
	}
	// O_EXCL: never through a symbolic link that someone left here.
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", fresh, err)
	}
	return f, nil
}

// Rename puts the file that Create made at its path.
func Rename(path string) error {
	if err := os.Rename(fresh(path), path); err != nil {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return nil
}

func fresh(path string) string { return path + ".new" }

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
	f, err := open(path, os.O_RDONLY, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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

// Open opens the file at path to be read and written, if it has at most limit
// bytes. Errors are those of Read.
func Open(path string, limit int64) (*os.File, error) { return open(path, os.O_RDWR, limit) }

func open(path string, how int, limit int64) (*os.File, error) {
	// A FIFO must not make the agent wait for a writer.
	f, err := os.OpenFile(path, how|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	case info.Size() > limit:
		err = tooLarge(path, limit)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s: %w of %d bytes", path, ErrTooLarge, limit)
}
