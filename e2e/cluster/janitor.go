package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// books is where every cluster on the machine is written down, in a file that
// is locked for as long as something of the cluster is there.
const books = "/run/heddle-e2e"

// An estate is what a cluster leaves that does not end with its processes.
type estate struct {
	Name      string // its cgroups are NAME-node1, NAME-node2, ...
	Owner     int    // pid, for messages
	Dir       string // "" before there is one
	Temporary bool   // Dir goes as a whole; otherwise the logs in it stay
}

// clear takes the estate away. The processes are dead, or about to be: the
// kernel kills them with the owner.
func (e *estate) clear() error {
	ctx := context.Background()
	err := errors.Join(removeCgroups(ctx, e.Name+"-node[0-9]"), removeCgroups(ctx, e.Name+"-node[0-9][0-9]"))
	switch {
	case e.Dir == "":
	case e.Temporary:
		err = errors.Join(err, os.RemoveAll(e.Dir))
	default:
		entries, readErr := os.ReadDir(e.Dir)
		err = errors.Join(err, readErr)
		for _, entry := range entries {
			if entry.Name() != "log" {
				err = errors.Join(err, os.RemoveAll(filepath.Join(e.Dir, entry.Name())))
			}
		}
	}
	return err
}

func book(name string) string { return filepath.Join(books, name) }

// register locks a cluster's name. What a dead owner left under it is taken
// away first.
func register(e estate) (*os.File, error) {
	if err := os.MkdirAll(books, 0o700); err != nil {
		return nil, err
	}
	file, err := lock(book(e.Name))
	if err != nil && !owned(book(e.Name)) {
		// A janitor that still cleans up needs a moment.
		err = poll(context.Background(), time.Minute, 50*time.Millisecond, "the name "+e.Name, func() (err error) {
			file, err = lock(book(e.Name))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("a cluster called %s is up: take it down, or use another name: %w", e.Name, err)
	}
	if err := inherit(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, write(file, e)
}

// owned says whether the owner of a cluster is alive.
func owned(path string) bool {
	var e estate
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &e) != nil {
		return false
	}
	return unix.Kill(e.Owner, 0) == nil
}

// inherit clears the estate that is written in a locked book, if there is one.
func inherit(file *os.File) error {
	b, err := io.ReadAll(file)
	if err != nil || len(b) == 0 {
		return err
	}
	var old estate
	if err := json.Unmarshal(b, &old); err != nil {
		return fmt.Errorf("read %s: %w: look at what it is, and remove it", file.Name(), err)
	}
	return old.clear()
}

func write(file *os.File, e estate) error {
	b, err := json.Marshal(e)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(b, 0)
	}
	return err
}

// lock opens and locks a file, without waiting for another who has it.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The one before may have removed the file between the two steps.
	locked, err := file.Stat()
	now, nowErr := os.Stat(path)
	if err != nil || nowErr != nil || !os.SameFile(locked, now) {
		file.Close()
		return nil, fmt.Errorf("lock %s: it was removed meanwhile", path)
	}
	return file, nil
}

// Sweep takes away what is left of clusters whose owner, and whose janitor, are
// dead: both have to have been killed. It leaves every other cluster alone.
func Sweep() error {
	entries, err := os.ReadDir(books)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		file, lockErr := lock(book(e.Name()))
		if lockErr != nil {
			continue // it is up
		}
		clearErr := inherit(file)
		if clearErr == nil {
			clearErr = os.Remove(file.Name())
		}
		err = errors.Join(err, clearErr)
		file.Close()
	}
	return err
}

// A keeper is the owner's end of a janitor: a process that outlives the owner,
// however that ends, and clears what it leaves.
type keeper struct {
	book   *os.File
	life   *os.File // closed by the owner, or by its end
	report *os.File
	wait   func() error
}

func keep(e estate) (*keeper, error) {
	file, err := register(e)
	if err != nil {
		return nil, err
	}
	k := &keeper{book: file}
	lifeEnd, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k.life, k.report = life, report
	cmd := self(stageJanitor, e.Name)
	cmd.ExtraFiles = []*os.File{lifeEnd, file, reportEnd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	err = cmd.Start()
	lifeEnd.Close()
	reportEnd.Close()
	if err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	k.wait = cmd.Wait
	return k, nil
}

// clear lets the janitor do its work, and waits for it.
func (k *keeper) clear() error {
	k.life.Close()
	text, err := io.ReadAll(k.report)
	err = errors.Join(err, k.wait())
	k.report.Close()
	k.book.Close()
	if len(text) > 0 {
		return fmt.Errorf("take the cluster away: %s", text)
	}
	return err
}

// janitor waits for the owner's end, then clears what it left. Open files: 3
// ends with the owner, 4 the locked book, 5 takes the errors.
func janitor(text string) error {
	for fd := 3; fd <= 5; fd++ {
		unix.CloseOnExec(fd)
	}
	life, file, report := os.NewFile(3, "life"), os.NewFile(4, "book"), os.NewFile(5, "report")
	_, _ = io.Copy(io.Discard, life)
	var name string
	err := json.Unmarshal([]byte(text), &name)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = inherit(file)
	}
	if err == nil {
		err = os.Remove(book(name))
	}
	if err != nil {
		fmt.Fprint(report, err) // nobody reads it when the owner was killed
	}
	return nil
}
