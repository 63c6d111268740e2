package attach

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// Remove takes Heddle out of the kernel: hooks, interfaces of the calling
// thread's network namespace, maps and the pins directory. Of the options it
// reads Pins alone. Connections stay with the endpoints they have. Removing what
// is not there is no error.
func Remove(o Options) error {
	p := pins(o.Pins)
	left, err := Left(o)
	if err != nil || len(left) == 0 {
		return err
	}
	if err := probeCapabilities(); err != nil {
		return err
	}
	if there, err := p.there(); err == nil && there {
		lock, err := lockPins(o.Pins)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	return p.removeAll()
}

// Left lists what Remove would remove.
func Left(o Options) ([]string, error) {
	p := pins(o.Pins)
	if _, err := p.there(); err != nil {
		return nil, err
	}
	return p.left()
}

// there reports whether there is a pins directory.
func (p pins) there() (bool, error) {
	// Above a directory that does not exist may be any file system.
	if _, err := os.Lstat(string(p)); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	kind, err := fileSystem(string(p))
	if err != nil {
		return false, fmt.Errorf("pins directory: %w", err)
	}
	if kind != unix.BPF_FS_MAGIC {
		return false, fmt.Errorf("pins directory %s is not on a bpf file system: nothing in it is Heddle's", p)
	}
	return true, nil
}

// left lists the pins, and the filters on interfaces, which are not pinned.
func (p pins) left() ([]string, error) {
	var out []string
	for _, dir := range []string{linksDir, stagedDir, switchDir, mapsDir} {
		names, err := p.names(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			out = append(out, "pin "+p.path(dir, name))
		}
	}
	if there, _ := p.there(); there && len(out) == 0 {
		out = append(out, "directory "+string(p))
	}
	filtered, err := filteredInterfaces()
	if err != nil {
		return nil, err
	}
	for _, ifindex := range slices.Sorted(maps.Keys(filtered)) {
		out = append(out, fmt.Sprintf("filters of interface %d", ifindex))
	}
	return out, nil
}

// removeAll goes on after an error, so that as little as possible stays.
func (p pins) removeAll() error {
	errs := []error{p.leaveFastPath(), p.detachLinks()}
	filtered, err := filteredInterfaces()
	errs = append(errs, err)
	for ifindex := range filtered {
		errs = append(errs, removeFilters(ifindex), removeQdisc(ifindex))
	}
	errs = append(errs, p.leaveFastPath()) // what came meanwhile
	for _, dir := range []string{linksDir, stagedDir, switchDir, mapsDir} {
		errs = append(errs, p.clear(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove Heddle from the kernel: %w", err)
	}
	return remove(string(p))
}

// leaveFastPath tells conntrack of the connections that are about to continue on
// the stack.
func (p pins) leaveFastPath() error {
	m, err := openMap(p.path(mapsDir, bpf.MapFast))
	if err != nil || m == nil {
		return err
	}
	defer m.Close()
	// A walk that others cut short is made up for after the programs are gone.
	if _, err = (flows{table: m}).prepare(everyFlow); errors.Is(err, ebpf.ErrIterationAborted) {
		return nil
	}
	return err
}

// detachLinks ends the hooks that translate before those that answer for it.
func (p pins) detachLinks() error {
	names, err := p.names(linksDir)
	if err != nil {
		return err
	}
	slices.SortStableFunc(names, func(a, b string) int { return p.rank(a) - p.rank(b) })
	var errs []error
	for _, name := range names {
		errs = append(errs, detachPinned(p.path(linksDir, name)))
	}
	return errors.Join(errs...)
}

func (p pins) rank(name string) int {
	l, err := openLink(p.path(linksDir, name))
	if err != nil || l == nil {
		return 1
	}
	defer l.Close()
	info, err := l.Info()
	if err == nil && info.Cgroup() != nil && translates(ebpf.AttachType(info.Cgroup().AttachType)) {
		return 0
	}
	return 1
}
