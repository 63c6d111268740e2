package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/cni/plugin"
)

// Options say where the runtime looks, and what its plugin is to be told.
type Options struct {
	ConfDir string // of the runtime, as /etc/cni/net.d
	BinDir  string // of its plugins, as /opt/cni/bin
	Binary  string // the plugin that belongs to this agent
	Socket  string // where the plugin finds the agent
	Policy  string // where it finds its policy
	Log     *slog.Logger
}

const (
	// rescanEvery finds what no notification told of.
	rescanEvery = 10 * time.Second
	// settle gathers the notifications of one change.
	settle = 20 * time.Millisecond
	// Repairs are bounded to this many in this time.
	maxRepairs   = 20
	repairWindow = time.Minute
)

// errTooOften: somebody rewrites the file without end.
var errTooOften = errors.New("rewritten too often")

// Keeper keeps the plugin in the chain. Create it with New, start it once with
// Run; the rest is safe for concurrent use.
type Keeper struct {
	o       Options
	entry   []byte
	repairs []time.Time // of the last repairWindow; Run's alone

	mu struct {
		sync.Mutex
		since   time.Time // in force since; zero: it is not
		problem *api.Problem
	}
}

// New returns a keeper.
func New(o Options) (*Keeper, error) {
	entry, err := entryOf(o.Socket, o.Policy)
	if err != nil {
		return nil, fmt.Errorf("entry of the CNI plugin: %w", err)
	}
	return &Keeper{o: o, entry: entry}, nil
}

// Since is when the plugin came into force, and false while it is not. Another
// program's change that was repaired does not end that.
func (k *Keeper) Since() (time.Time, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.since, !k.mu.since.IsZero()
}

// Problems is why pods start without the plugin; empty: they do not.
func (k *Keeper) Problems() []api.Problem {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.problem == nil {
		return nil
	}
	return []api.Problem{*k.mu.problem}
}

// Run keeps the chain until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		k.o.Log.Warn("CNI configuration cannot be watched; it is looked at now and then", "error", err)
		watcher = &fsnotify.Watcher{} // tells nothing
	} else {
		defer watcher.Close()
	}
	for {
		if err == nil {
			k.watch(watcher)
		}
		k.keep(time.Now())
		if !wait(ctx, watcher) {
			return
		}
	}
}

// watch adds the directories, which may be new since the last time.
func (k *Keeper) watch(w *fsnotify.Watcher) {
	for _, dir := range []string{k.o.ConfDir, k.o.BinDir} {
		if err := w.Add(dir); err != nil {
			k.o.Log.Debug("directory cannot be watched", "directory", dir, "error", err)
		}
	}
}

// wait returns at the next change, or when it is time to look again; false when
// ctx ended.
func wait(ctx context.Context, w *fsnotify.Watcher) bool {
	again := time.NewTimer(rescanEvery)
	defer again.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-again.C:
		return true
	case <-w.Events:
	case <-w.Errors: // some were lost
	}
	gathered := time.NewTimer(settle)
	defer gathered.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.Events:
		case <-w.Errors:
		case <-gathered.C:
			return true
		}
	}
}

// keep looks once and repairs. The binary comes first: an entry without it
// would let no pod start.
func (k *Keeper) keep(now time.Time) {
	if wrote, err := install(k.o.Binary, k.o.BinDir); err != nil {
		k.report(err)
		return
	} else if wrote {
		k.o.Log.Info("CNI plugin installed", "directory", k.o.BinDir)
	}
	file, wrote, err := chain(k.o.ConfDir, k.entry, func() bool { return k.mayRepair(now) })
	if wrote {
		k.o.Log.Info("CNI plugin chained", "file", file)
	}
	if errors.Is(err, errTooOften) {
		err = fmt.Errorf("%w: another program took %s out of %s more than %d times in %v; "+
			"find it, it is most likely another agent that installs its own CNI configuration", errTooOften, plugin.Type, file, maxRepairs, repairWindow)
	}
	k.report(err)
}

// mayRepair counts repairs.
func (k *Keeper) mayRepair(now time.Time) bool {
	recent := k.repairs[:0]
	for _, t := range k.repairs {
		if now.Sub(t) < repairWindow {
			recent = append(recent, t)
		}
	}
	k.repairs = recent
	if len(recent) >= maxRepairs {
		return false
	}
	k.repairs = append(recent, now)
	return true
}

func (k *Keeper) report(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		if k.mu.since.IsZero() {
			k.mu.since = time.Now()
		}
		k.mu.problem = nil
		return
	}
	p := &api.Problem{Object: "CNI configuration " + k.o.ConfDir, Reason: "CNINotChained",
		Detail: err.Error() + "; pods that start meanwhile are enrolled after they have started"}
	switch {
	case errors.Is(err, errTooOften):
		p.Reason = "CNIRewritten"
	case errors.Is(err, errNoNetwork):
		p.Detail = err.Error() + ": no pod can start on this node until its network plugin has written one"
	}
	if k.mu.problem == nil || k.mu.problem.Detail != p.Detail {
		k.o.Log.Warn("CNI plugin is not in the chain", "reason", p.Reason, "error", err)
	}
	k.mu.problem = p
}
