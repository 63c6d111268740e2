package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// writeQuiet is how long a file must not have changed before it is taken as
// complete, where the file system cannot tell whether it is open for writing.
const writeQuiet = 20 * time.Millisecond

// errWriting means that a file is being written, so its contents mean nothing
// yet.
var errWriting = errors.New("another process has it open for writing")

// readFile returns the contents of a regular file and their sum. Symbolic links
// are followed: that is how ConfigMaps are mounted. Anything else that has a name
// (a FIFO, a device) is refused without waiting for it.
func readFile(path string, now time.Time) ([]byte, [sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	info, err := os.Stat(path)
	if err != nil {
		return nil, sum, err
	}
	if !info.Mode().IsRegular() {
		return nil, sum, fmt.Errorf("it is a %s, only regular files are read", describeMode(info.Mode()))
	}
	// Not to wait on what took the file's place since.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, sum, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, sum, err
	}
	if !before.Mode().IsRegular() {
		return nil, sum, fmt.Errorf("it is a %s, only regular files are read", describeMode(before.Mode()))
	}
	if before.Size() > maxFileSize {
		return nil, sum, fmt.Errorf("it has %d bytes, the limit is %d; split it", before.Size(), maxFileSize)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, sum, err
	}
	if len(data) > maxFileSize {
		return nil, sum, fmt.Errorf("it has more than %d bytes; split it", maxFileSize)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, sum, err
	}
	if !sameContents(before, after) || beingWritten(f, after, now) {
		return nil, sum, errWriting
	}
	return data, sha256.Sum256(data), nil
}

func sameContents(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// beingWritten reports whether a process has the file open for writing. A read
// lease is possible only when none has; it is given back at once, so a writer
// that comes now waits for microseconds. Where leases are not possible (the file
// system has none, or the file is another user's), the file counts as being
// written while its last change is fresh.
func beingWritten(f *os.File, info fs.FileInfo, now time.Time) bool {
	connection, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var leaseErr error
	err = connection.Control(func(fd uintptr) {
		if _, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); leaseErr == nil {
			_, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	switch {
	case err != nil:
		return false
	case leaseErr == nil:
		return false
	case errors.Is(leaseErr, unix.EAGAIN):
		return true
	}
	age := now.Sub(info.ModTime())
	return age >= 0 && age < writeQuiet
}

func describeMode(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "FIFO"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}
