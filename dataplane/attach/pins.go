package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// pins is the directory that holds the state, see the package documentation.
type pins string

const (
	mapsDir   = "maps"
	linksDir  = "links"
	stagedDir = "staged"
	switchDir = "switch"
)

func (p pins) path(elem ...string) string {
	return filepath.Join(append([]string{string(p)}, elem...)...)
}

// names lists the pins in one of the directories, none when it does not exist.
func (p pins) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(p.path(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (p pins) make(dir string) error {
	if err := os.MkdirAll(p.path(dir), 0o700); err != nil {
		return fmt.Errorf("create pins directory: %w", err)
	}
	return nil
}

// clear removes a directory and the pins in it. What only the pins held goes
// with them: maps are freed, links detach.
func (p pins) clear(dir string) error {
	names, err := p.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := remove(p.path(dir, name)); err != nil {
			return err
		}
	}
	return remove(p.path(dir))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// openMap returns the map pinned at path, or nil when nothing is.
func openMap(path string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w: remove that file if it is not Heddle's", path, err)
	}
	return m, nil
}

// openLink returns the link pinned at path, or nil when nothing is.
func openLink(path string) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link %s: %w: remove that file if it is not Heddle's", path, err)
	}
	return l, nil
}

// pinLink pins a link at links/name, in place of what was pinned there. The
// replaced link ends with its pin, after the new one is in force.
func (p pins) pinLink(l link.Link, name string) error {
	if err := p.make(stagedDir); err != nil {
		return err
	}
	if err := p.make(linksDir); err != nil {
		return err
	}
	// bpffs cannot pin over a pin, but it can rename over one.
	if err := remove(p.path(stagedDir, name)); err != nil {
		return err
	}
	if err := l.Pin(p.path(stagedDir, name)); err != nil {
		return fmt.Errorf("pin link %s: %w", name, err)
	}
	if err := os.Rename(p.path(stagedDir, name), p.path(linksDir, name)); err != nil {
		return fmt.Errorf("pin link %s: %w", name, err)
	}
	return remove(p.path(stagedDir))
}
