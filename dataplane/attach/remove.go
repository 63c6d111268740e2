package attach

import (
	"errors"
	"fmt"
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
	kind, err := fileSystem(o.Pins)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pins directory: %w", err)
	}
	if kind != unix.BPF_FS_MAGIC {
		return fmt.Errorf("pins directory %s is not on a bpf file system: nothing in it is Heddle's", o.Pins)
	}
	if err := probeCapabilities(); err != nil {
		return err
	}
	lock, err := lockPins(o.Pins)
	if err != nil {
		return err
	}
	defer lock.Close()
	return pins(o.Pins).removeAll()
}

// removeAll goes on after an error, so that as little as possible stays.
func (p pins) removeAll() error {
	errs := []error{p.leaveFastPath(), p.detachLinks()}
	filtered, err := filteredInterfaces()
	errs = append(errs, err)
	for ifindex := range filtered {
		errs = append(errs, removeFilters(ifindex))
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
