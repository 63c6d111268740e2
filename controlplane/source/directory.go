package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/fsnotify/fsnotify"

	"heddle.io/heddle/controlplane/model"
)

// Options says what to read. Path is required.
type Options struct {
	Path     string // the directory
	StateDir string // where the last good objects are kept; empty: nowhere
	// Rescan is how often all files are read again, because not every change is
	// announced: those behind symbolic links, on network file systems, or while
	// the directory is replaced. 0: 2 s.
	Rescan time.Duration
	Log    *slog.Logger
}

// Update is the state of the source after something changed.
type Update struct {
	// Snapshot is nil as long as nothing is known: the directory, or the API
	// server, could not be read yet, and no state was left from an earlier run. It is the same
	// pointer as before when no object changed.
	Snapshot *model.Snapshot
	Problems []model.Problem // sorted, at most 1000
	Err      error           // why the source cannot be read; the last good objects are in force
	Noticed  time.Time       // when the oldest of the changes was noticed
}

// Directory keeps the model of the objects in a directory: files *.yaml, *.yml
// and *.json, not those of subdirectories, not those whose names begin with a
// dot. Create it with New and start it once with Run, whose goroutine owns
// everything but the channel.
type Directory struct {
	o      Options
	outbox outbox

	files    map[string]*file
	objects  map[id]owned    // in force
	snapshot *model.Snapshot // of objects; nil: nothing is known yet
	problems []model.Problem // of files and objects
	store    *store

	// What to look at, and when.
	dirty   map[string]time.Time // file -> not before
	all     bool                 // everything
	scanAt  time.Time            // of the next rescan
	gone    gone
	gather  gather
	noticed time.Time // the oldest change that was not handled; zero: none
	changed bool      // files are not as they were when apply ran last
	watcher *fsnotify.Watcher
	watched fs.FileInfo // the directory that the watcher watches; nil: none

	unavailable error // why the directory cannot be read
	unwatched   error // why changes are found by rescans only
	unsaved     error // why the last good objects are not kept on disk
}

// New returns a directory that nobody has looked at yet.
func New(o Options) *Directory {
	if o.Rescan == 0 {
		o.Rescan = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Directory{
		o:       o,
		outbox:  newOutbox(),
		files:   make(map[string]*file),
		objects: make(map[id]owned),
		store:   newStore(o.StateDir),
		dirty:   make(map[string]time.Time),
	}
}

// Updates delivers the newest update. Who reads late misses the ones between.
func (d *Directory) Updates() <-chan Update { return d.outbox.updates }

// Run follows the directory until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	d.restore()
	events, errs := d.watch()
	if d.watcher != nil {
		defer d.watcher.Close()
	}
	timer := time.NewTimer(0) // the first scan is due
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			d.notice(e, time.Now())
		case err := <-errs: // events were lost
			d.o.Log.Warn("watching the directory; all files are read again", "path", d.o.Path, "error", err)
			d.noticeAll(time.Now())
		case <-timer.C:
		}
		if now := time.Now(); !now.Before(d.next()) {
			d.turn(now)
		}
		timer.Reset(max(0, time.Until(d.next())))
	}
}

// restore begins with what was in force when the controller stopped.
func (d *Directory) restore() {
	kept, err := d.store.load()
	if err != nil {
		d.o.Log.Warn("last good objects", "error", err)
	}
	for name, good := range kept {
		d.files[name] = &file{name: name, good: good, restored: true}
	}
	if len(kept) > 0 {
		d.apply()
	}
}

// turn looks at what may have changed and puts in force what follows.
func (d *Directory) turn(now time.Time) {
	if d.noticed.IsZero() {
		d.noticed = now
	}
	if d.all || !now.Before(d.scanAt) {
		d.scan(now)
	}
	for name, notBefore := range d.dirty {
		if !now.Before(notBefore) {
			d.look(name, now)
		}
	}
	d.bury(now)
	d.gather.handled(time.Now())
	var touched map[string]bool
	if d.changed {
		touched = d.apply()
	}
	d.publish()
	d.remember(touched)
	d.publish() // says so if remembering failed
	d.noticed = time.Time{}
}

// apply decides which objects are in force and returns the files whose share of
// them changed.
func (d *Directory) apply() (touched map[string]bool) {
	d.changed = false
	files := slices.SortedFunc(maps.Values(d.files), func(a, b *file) int { return strings.Compare(a.name, b.name) })
	before := d.objects
	d.objects, d.problems = admit(files, before)
	touched = make(map[string]bool)
	for i, o := range d.objects {
		if old := before[i]; old != o {
			touched[o.file], touched[old.file] = true, true
		}
	}
	for i, old := range before {
		if _, stays := d.objects[i]; !stays {
			touched[old.file] = true
		}
	}
	delete(touched, "")
	for _, f := range files {
		f.good = make(map[id]*object, len(f.good))
	}
	for i, o := range d.objects {
		d.files[o.file].good[i] = o.object
	}
	known := d.unavailable == nil || len(d.objects) > 0
	if known && (d.snapshot == nil || len(touched) > 0) {
		d.snapshot = snapshot(d.objects, d.snapshot)
	}
	return touched
}

// publish delivers the state, if it differs from the one before.
func (d *Directory) publish() {
	problems := slices.Clone(d.problems)
	for reason, err := range map[string]error{"SourceUnavailable": d.unavailable, "WatchUnavailable": d.unwatched, "StateUnavailable": d.unsaved} {
		if err != nil {
			problems = append(problems, model.Problem{Object: "directory " + printable(d.o.Path), Reason: reason, Detail: err.Error()})
		}
	}
	d.outbox.publish(Update{Snapshot: d.snapshot, Err: d.unavailable, Noticed: d.noticed}, problems)
}

// bounded sorts problems, cuts them at what is worth reading, and makes them fit
// for a terminal: parts of them are whatever somebody wrote into a file.
func bounded(problems []model.Problem) []model.Problem {
	slices.SortFunc(problems, model.Problem.Compare)
	more := len(problems) - (maxProblems - 1)
	if more > 1 {
		problems = problems[:maxProblems-1]
	}
	for i := range problems {
		problems[i].Detail = oneLine(problems[i].Detail)
	}
	if more > 1 {
		problems = append(problems, model.Problem{
			Object: "source", Reason: "TooManyProblems", Detail: fmt.Sprintf("%d more are not shown; correct those above first", more),
		})
	}
	return problems
}

// maxDetail bounds the text of one problem, in bytes.
const maxDetail = 2048

func oneLine(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail] + "…"
	}
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// remember keeps the objects in force on disk, for the next start.
func (d *Directory) remember(touched map[string]bool) {
	var errs []error
	for name := range touched {
		if f := d.files[name]; f != nil {
			errs = append(errs, d.store.save(name, f.good))
		} else {
			errs = append(errs, d.store.forget(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		d.unsaved = fmt.Errorf("objects that are in force now are forgotten when the controller stops: %w", err)
	} else if len(touched) > 0 {
		d.unsaved = nil
	}
}
