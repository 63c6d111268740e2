package feed

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/disk"
)

// A change is written before it is published, so that a killed agent never finds
// a cache older than the kernel's tables. The disk is waited for behind, at most
// every cacheEvery.
const cacheEvery = 200 * time.Millisecond

// cacheSlack is how many bytes the file may have beyond twice what it needs
// before it is rewritten.
const cacheSlack = 1 << 20

// loadCache fills the store from disk. Without a usable cache the feed starts
// empty and unsynced, which leaves the kernel as it is.
func (f *Feed) loadCache() {
	if f.o.Cache == "" {
		return
	}
	s := newStore(f.o.Node)
	journal, err := restore(f.o.Cache, f.o.Node, s)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.o.Log.Warn("feed cache is not usable; starting without it: pods stay as the kernel has them until the control plane answers",
			"file", f.o.Cache, "error", err)
		f.mu.cacheError = fmt.Errorf("not usable at start: %w", err)
	default:
		f.o.Log.Info("feed cache loaded", "file", f.o.Cache, "resources", s.size())
		f.mu.journal, f.mu.store = journal, s
		f.mu.fromCache = true
		f.publishLocked(time.Now())
		return
	}
	f.mu.journal = newJournal(f.o)
}

func newJournal(o Options) *journal { return &journal{path: o.Cache, node: o.Node} }

// restore fills a store with what the file holds. Every resource passes the same
// checks as one from the server.
func restore(path, node string, s *store) (*journal, error) {
	seen := make(map[string]bool)
	j, err := openJournal(path, node, func(r *discovery.DeltaDiscoveryResponse) error {
		table := s.of(r.TypeUrl)
		if table == nil {
			return fmt.Errorf("it holds resources of the unknown type %q", printable(r.TypeUrl))
		}
		seen[r.TypeUrl] = true
		for _, resource := range r.Resources {
			if err := table.put(resource); err != nil {
				return fmt.Errorf("%s %s: %w", typeName(r.TypeUrl), printable(resource.GetName()), err)
			}
		}
		for _, name := range r.RemovedResources {
			table.remove(name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, typeURL := range xds.Types {
		if !seen[typeURL] {
			j.close()
			return nil, fmt.Errorf("the %s resources are missing", typeName(typeURL))
		}
	}
	if err := j.cut(); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

// keepLocked writes what was accepted of a response.
func (f *Feed) keepLocked(accepted *discovery.DeltaDiscoveryResponse) {
	if f.mu.journal == nil {
		return
	}
	f.mu.unsaved = true
	f.savedLocked(f.mu.journal.add(accepted))
}

// saveCache brings the file up to date, waits for the disk, and returns how long
// that took. Only settle calls it.
func (f *Feed) saveCache() time.Duration {
	start := time.Now()
	f.mu.Lock()
	err := f.tidyLocked()
	f.mu.unsaved = false
	f.mu.Unlock()

	if err == nil {
		err = disk.Sync(f.o.Cache)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// What changed meanwhile, or could not be written, is left to the next call.
	f.mu.unsaved = f.mu.unsaved || err != nil && !errors.Is(err, errLost)
	f.savedLocked(err)
	return time.Since(start)
}

// tidyLocked writes what could not be written before, and rewrites the file when
// much of it counts no more, or when somebody took it away. A file that does not
// hold every type yet is left as it is: nobody would use it.
func (f *Feed) tidyLocked() error {
	j := f.mu.journal
	if j.lost {
		return errLost
	}
	if err := j.flush(); err != nil {
		return err
	}
	if j.file == nil || !f.readyLocked() || j.size < int64(2*f.mu.store.bytes()+cacheSlack) && !j.moved() {
		return nil
	}
	kept := make(map[string]map[string]bool)
	for _, t := range f.mu.store.tables() {
		kept[t.typeURL()] = make(map[string]bool)
	}
	return j.rewrite(xds.Types, func(typeURL string, r *discovery.Resource) bool {
		name := r.GetName()
		if kept[typeURL][name] || !f.mu.store.of(typeURL).has(name, r.GetVersion()) {
			return false
		}
		kept[typeURL][name] = true
		return true
	})
}

func (f *Feed) savedLocked(err error) {
	if err != nil && f.mu.cacheError == nil {
		f.o.Log.Warn("feed cache cannot be written; a restart without a controller would start from an older state",
			"file", f.o.Cache, "error", err)
	}
	f.mu.cacheError = err
}
