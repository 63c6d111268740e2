package attach

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// recover finishes or undoes what an interrupted Open left behind.
func (o *opening) recover() error {
	if err := o.pins.clear(stagedDir); err != nil {
		return err
	}
	names, err := o.pins.names(switchDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := o.step("recover " + name); err != nil {
			return err
		}
		if err := o.fold(name); err != nil {
			return err
		}
	}
	return remove(o.pins.path(switchDir))
}

// fold puts a map that programs may already use in the place of its
// predecessor, which other programs may still use: until the hooks are updated
// they write there, so the contents are fetched again then.
func (o *opening) fold(name string) error {
	now, err := openMap(o.pins.path(switchDir, name))
	if err != nil {
		return err
	}
	o.keep(now)
	l, err := layoutOfMap(now)
	if err != nil {
		return fmt.Errorf("map %s of an interrupted upgrade: %w", name, err)
	}
	old, err := openMap(o.pins.path(mapsDir, name))
	if err != nil {
		return err
	}
	if old != nil {
		o.keep(old)
		before, err := layoutOfMap(old)
		if err != nil {
			return fmt.Errorf("map %s from before an interrupted upgrade: %w", name, err)
		}
		t := &table{name: name, layout: l, kind: kindOf(now.Type(), now.Flags(), l), now: now}
		t.replaces(&source{m: old, layout: before})
		if err := o.copyAll(t); err != nil {
			return err
		}
		o.folded[name] = []*source{{m: old, layout: before}}
	}
	o.Log.Info("finishing the migration of a map", "map", name)
	return o.publishMap(name)
}

// migrating reports whether contents have to move at all.
func (o *opening) migrating() bool {
	return slices.ContainsFunc(o.tables, func(t *table) bool { return len(t.old) > 0 })
}

// copyBefore fills the new maps while all programs still use the old ones.
func (o *opening) copyBefore() error {
	for _, t := range o.tables {
		if err := o.copyAll(t); err != nil {
			return err
		}
	}
	return nil
}

// pointOfNoReturn says on disk that programs may use the new maps from now on.
func (o *opening) pointOfNoReturn() error {
	if !slices.ContainsFunc(o.tables, func(t *table) bool { return t.staged }) {
		return nil
	}
	if err := os.Rename(o.pins.path(stagedDir), o.pins.path(switchDir)); err != nil {
		return fmt.Errorf("switch to the new maps: %w", err)
	}
	return nil
}

// copyAfter fetches what the old programs wrote until they were replaced: once
// at once, so that sockets miss their state as briefly as possible, and once
// when the last run of an old program has ended.
func (o *opening) copyAfter() error {
	if !o.migrating() {
		return nil
	}
	if err := o.copyWritten(); err != nil {
		return err
	}
	waitForPrograms()
	if err := o.copyWritten(); err != nil {
		return err
	}
	for _, t := range o.tables {
		if t.kind != counters {
			continue
		}
		if err := o.step("count " + t.name); err != nil {
			return err
		}
		if err := t.moveCounts(); err != nil {
			return fmt.Errorf("move the counts of map %s: %w", t.name, err)
		}
	}
	return nil
}

func (o *opening) copyWritten() error {
	for _, t := range o.tables {
		if t.kind != entries && t.kind != storage {
			continue
		}
		if err := o.copyAll(t); err != nil {
			return err
		}
	}
	return nil
}

// waitForPrograms returns when every program that ran at the call has ended:
// a global memory barrier waits for an RCU grace period. Where the kernel
// refuses one, only counts of that instant can be missed.
func waitForPrograms() {
	const membarrierGlobal = 1
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}

// copyAll brings a table up to date with the maps it replaces. It may be called
// any number of times.
func (o *opening) copyAll(t *table) error {
	for _, s := range t.old {
		var lost int
		var err error
		switch t.kind {
		case storage:
			err = o.copyStorage(t, s)
		case counters:
			err = t.addRows(s)
		case config:
			lost, err = t.copyConfig(s)
		case entries:
			lost, err = t.copyEntries(s)
		}
		if err != nil {
			return fmt.Errorf("migrate map %s: %w", t.name, err)
		}
		if lost > 0 {
			o.Log.Warn("entries do not fit into the new layout", "map", t.name, "lost", lost)
		}
	}
	return nil
}

// convert returns an entry of s in the table's layout.
func (s *source) convert(key, value []byte) (newKey, newValue []byte, ok bool) {
	newKey, keyFits := s.key.apply(key)
	newValue, valueFits := s.value.apply(value)
	return newKey, newValue, keyFits && valueFits
}

// copyConfig adds the entries that t does not have yet.
func (t *table) copyConfig(s *source) (lost int, err error) {
	err = each(s.m, func(key, value []byte) error {
		newKey, newValue, ok := s.convert(key, value)
		if !ok {
			lost++
			return nil
		}
		return t.add(newKey, newValue)
	})
	return lost, err
}

// add writes an entry unless there is one.
func (t *table) add(key []byte, value any) error {
	err := t.now.Update(key, value, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}

// copyEntries repeats in t what programs did in s since the last time: entries
// that are new, that changed, and that are gone. What the programs of this
// version wrote meanwhile stays.
func (t *table) copyEntries(s *source) (lost int, err error) {
	found := map[string]string{}
	err = each(s.m, func(key, value []byte) error {
		newKey, newValue, ok := s.convert(key, value)
		if !ok {
			lost++
			return nil
		}
		found[string(newKey)] = string(newValue)
		before, known := s.copied[string(newKey)]
		switch {
		case !known:
			return t.add(newKey, newValue)
		case before != string(newValue):
			return t.change(newKey, before, newValue)
		}
		return nil
	})
	if errors.Is(err, ebpf.ErrIterationAborted) {
		// Programs write faster than we read. They no longer do after the
		// switch, when this is called again.
		maps.Copy(s.copied, found)
		return lost, nil
	}
	if err != nil {
		return lost, err
	}
	for key, value := range s.copied {
		if _, ok := found[key]; !ok {
			if err := t.change([]byte(key), value, nil); err != nil {
				return lost, err
			}
		}
	}
	s.copied = found
	return lost, nil
}

// change replaces an entry that nobody changed since it was copied, or deletes
// it when value is nil.
func (t *table) change(key []byte, before string, value []byte) error {
	now, err := t.now.LookupBytes(key)
	if err != nil || string(now) != before {
		return err
	}
	if value == nil {
		err = t.now.Delete(key)
	} else {
		err = t.now.Update(key, value, ebpf.UpdateExist)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// publish puts the new maps in the place of the old ones.
func (o *opening) publish() error {
	for _, t := range o.tables {
		if !t.staged {
			continue
		}
		if err := o.step("publish " + t.name); err != nil {
			return err
		}
		if err := o.publishMap(t.name); err != nil {
			return err
		}
	}
	return remove(o.pins.path(switchDir))
}

func (o *opening) publishMap(name string) error {
	if err := o.pins.make(mapsDir); err != nil {
		return err
	}
	if err := os.Rename(o.pins.path(switchDir, name), o.pins.path(mapsDir, name)); err != nil {
		return fmt.Errorf("publish map %s: %w", name, err)
	}
	return nil
}

// sweep removes the pins of maps and hooks that this version does not have.
func (o *opening) sweep() error {
	known := func(dir, name string) bool {
		if dir == mapsDir {
			return o.spec.Maps[name] != nil
		}
		return o.spec.Programs[name] != nil || isInterfacePin(name)
	}
	for _, dir := range []string{mapsDir, linksDir} {
		names, err := o.pins.names(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if known(dir, name) {
				continue
			}
			o.Log.Info("removing what this version does not have", "pin", o.pins.path(dir, name))
			if err := remove(o.pins.path(dir, name)); err != nil {
				return err
			}
		}
	}
	return o.pins.clear(stagedDir)
}
