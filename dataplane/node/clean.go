package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"heddle.io/heddle/dataplane/attach"
)

// Clean takes everything of Heddle's from this node: the CNI plugin, what is in
// the kernel, the files, the sockets. Pods keep running, and connections
// continue with the endpoints they have: those on the fast path are handed back
// to the stack first. It returns what it removed, one line for each, and goes on
// after an error. With check it removes nothing and returns what is there.
//
// The agent must have ended. Of the configuration it reads where things are.
func Clean(c Config, check bool) ([]string, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &report{check: check}
	// The plugin first: pods that start from now on must not wait for an agent
	// that will not come.
	removeCNI(&c, r)
	kernel, err := attach.Left(attach.Options{Pins: c.Pins})
	if err == nil && !check {
		err = attach.Remove(attach.Options{Pins: c.Pins})
	}
	if err != nil {
		// An agent that runs needs its files, and another try may need the rest.
		return r.lines, errors.Join(r.err(), err)
	}
	r.add(kernel, nil)
	removeFiles(&c, r)
	r.removeCgroup(&c)
	return r.lines, r.err()
}

// report collects what is removed.
type report struct {
	check bool // nothing is removed
	lines []string
	errs  []error
}

func (r *report) add(lines []string, err error) {
	r.lines = append(r.lines, lines...)
	r.errs = append(r.errs, err)
}

func (r *report) remove(what string, remove func() error) {
	if !r.check {
		if err := remove(); err != nil {
			r.errs = append(r.errs, fmt.Errorf("removing %s: %w", what, err))
			return
		}
	}
	r.lines = append(r.lines, what)
}

func (r *report) err() error { return errors.Join(r.errs...) }

// removeCgroup removes the cgroup that an agent made for itself, if it did.
func (r *report) removeCgroup(c *Config) {
	root := c.Cgroup
	if root == "" {
		var err error
		if root, err = cgroupRoot("/proc/self/mountinfo"); err != nil {
			return // none is mounted, so there is nothing in it
		}
	}
	dir := filepath.Join(root, ownChild)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return
	}
	r.remove("cgroup "+dir, func() error { return os.Remove(dir) })
}
