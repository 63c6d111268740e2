package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"heddle.io/heddle/controlplane/model"
)

// Rescans take at most this share of the time, however large the directory is.
const rescanShare = 20

// unavailableEvery is how often a directory that cannot be read is tried again.
const unavailableEvery = 200 * time.Millisecond

// A file that is being written is looked at again soon, and less often the
// longer it takes. After writingLong it is reported.
const (
	writingFirst = 5 * time.Millisecond
	writingMost  = 500 * time.Millisecond
	writingLong  = 5 * time.Second
)

// watch starts to listen for changes. Without it, rescans find them.
func (d *Directory) watch() (<-chan fsnotify.Event, <-chan error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		d.unwatched = fmt.Errorf("changes are noticed after up to %s only: %w; raise fs.inotify.max_user_instances", d.o.Rescan, err)
		return nil, nil
	}
	d.watcher = w
	return w.Events, w.Errors
}

// notice takes an announced change into account.
func (d *Directory) notice(e fsnotify.Event, now time.Time) {
	name := filepath.Base(e.Name)
	if isObjectFile(name) {
		d.dirty[name] = time.Time{}
		d.note(now)
		return
	}
	// The directory itself, or what symbolic links lead through: a ConfigMap is
	// replaced by renaming a link named "..data". Other names do not matter.
	if name == filepath.Base(d.o.Path) || strings.HasPrefix(name, "..") {
		d.noticeAll(now)
	}
}

func (d *Directory) noticeAll(now time.Time) {
	d.all = true
	d.note(now)
}

func (d *Directory) note(now time.Time) {
	d.gather.note(now)
	if d.noticed.IsZero() {
		d.noticed = now
	}
}

// next returns when there is something to do.
func (d *Directory) next() time.Time {
	at := d.scanAt
	if due, ok := d.gather.due(); ok && due.Before(at) {
		at = due
	}
	if due, ok := d.gone.due(); ok && due.Before(at) {
		at = due
	}
	for _, notBefore := range d.dirty {
		if !notBefore.IsZero() && notBefore.Before(at) { // zero: the gathering decides
			at = notBefore
		}
	}
	return at
}

func isObjectFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// scan reads the whole directory.
func (d *Directory) scan(now time.Time) {
	d.all = false
	names, err := d.list()
	if err != nil {
		d.unavailable = err
		d.gone = gone{} // out of sight, not gone
		d.scanAt = time.Now().Add(unavailableEvery)
		return
	}
	d.unavailable = nil
	d.changed = d.changed || d.snapshot == nil
	for name := range d.files {
		if !names[name] {
			d.gone.add(name, now)
		}
	}
	for name := range names {
		d.look(name, now)
	}
	took := time.Since(now)
	d.scanAt = time.Now().Add(max(d.o.Rescan, rescanShare*took))
}

// list returns the names of the object files. The watch is set first, so that
// nothing changes unseen between the two.
func (d *Directory) list() (map[string]bool, error) {
	if err := d.follow(); err != nil {
		return nil, err
	}
	dir, err := os.Open(d.o.Path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names := make(map[string]bool)
	for {
		some, err := dir.Readdirnames(1000)
		for _, name := range some {
			if isObjectFile(name) {
				names[name] = true
			}
		}
		if len(names) > maxFiles {
			return nil, fmt.Errorf("%s has more than %d files of objects; put several objects into one file", d.o.Path, maxFiles)
		}
		if len(some) == 0 {
			// The end, or an error: a list that was cut off must not
			// look like one in which files are missing.
			if err == nil || errors.Is(err, io.EOF) {
				return names, nil
			}
			return nil, err
		}
	}
}

// follow makes the watcher watch the directory that the path leads to now.
func (d *Directory) follow() error {
	info, err := os.Stat(d.o.Path)
	if err != nil {
		d.watched = nil
		return fmt.Errorf("%w; create it, or correct --source", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory; correct --source", d.o.Path)
	}
	if d.watcher == nil || d.watched != nil && os.SameFile(d.watched, info) {
		return nil
	}
	// The old one may be gone already, which takes its watch with it.
	_ = d.watcher.Remove(d.o.Path)
	d.watched = info
	d.unwatched = nil
	if err := d.watcher.Add(d.o.Path); err != nil {
		d.watched = nil
		d.unwatched = fmt.Errorf("changes are noticed after up to %s only: %w; raise fs.inotify.max_user_watches", d.o.Rescan, err)
	}
	return nil
}

// look reads one file, if it changed.
func (d *Directory) look(name string, now time.Time) {
	delete(d.dirty, name)
	f := d.files[name]
	path := filepath.Join(d.o.Path, name)
	data, sum, err := readFile(path, now)
	if errors.Is(err, fs.ErrNotExist) {
		if _, linkErr := os.Lstat(path); errors.Is(linkErr, fs.ErrNotExist) {
			if f != nil {
				d.gone.add(name, now)
			}
			return
		}
		err = fmt.Errorf("the symbolic link leads nowhere: %w", err)
	}
	d.gone.remove(name)
	if f == nil {
		f = &file{name: name}
		d.files[name] = f
	}
	switch {
	case errors.Is(err, errWriting):
		d.lookAgain(f, now)
	case err != nil:
		d.refuse(f, f.complaint("FileUnreadable", err))
	default:
		d.read(f, data, sum)
	}
}

// read takes the contents of a file.
func (d *Directory) read(f *file, data []byte, sum [sha256.Size]byte) {
	d.changed = d.changed || f.unreadable != nil
	f.unreadable, f.writing = nil, time.Time{}
	if f.sum == sum {
		return
	}
	d.changed = true
	f.sum = sum
	documents, err := decode(data, f.objects())
	if err != nil {
		f.malformed = f.complaint("FileMalformed", err)
		return
	}
	f.documents, f.malformed, f.restored = documents, nil, false
}

// refuse notes that a file cannot be read.
func (d *Directory) refuse(f *file, why *model.Problem) {
	if f.unreadable == nil || *f.unreadable != *why {
		f.unreadable = why
		d.changed = true
	}
}

// lookAgain waits for the writer to be done.
func (d *Directory) lookAgain(f *file, now time.Time) {
	if f.writing.IsZero() {
		f.writing = now
	}
	age := now.Sub(f.writing)
	if age > writingLong {
		d.refuse(f, f.complaint("FileBeingWritten", fmt.Errorf("%w for more than %s; close it there", errWriting, writingLong)))
	}
	d.dirty[f.name] = now.Add(min(max(writingFirst, age/2), writingMost))
}

// bury forgets the files that are really gone.
func (d *Directory) bury(now time.Time) {
	due, ok := d.gone.due()
	if !ok || now.Before(due) {
		return
	}
	names := d.gone.names
	d.gone = gone{}
	if _, err := os.Stat(d.o.Path); err != nil {
		d.all = true // the directory itself went
		d.scanAt = now
		return
	}
	for name := range names {
		delete(d.files, name)
		d.changed = true
	}
}

func (f *file) complaint(reason string, err error) *model.Problem {
	fate := "nothing of it is in force"
	if len(f.good) > 0 {
		fate = fmt.Sprintf("its last good objects stay in force (%d)", len(f.good))
	}
	return &model.Problem{Object: "file " + printable(f.name), Reason: reason, Detail: err.Error() + "; " + fate}
}

// objects returns those of the newest contents that made sense.
func (f *file) objects() map[id]*object {
	out := make(map[id]*object, len(f.documents))
	for _, d := range f.documents {
		if d.object != nil {
			out[d.id] = d.object
		}
	}
	return out
}
