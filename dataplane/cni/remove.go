package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"heddle.io/heddle/dataplane/cni/plugin"
	"heddle.io/heddle/dataplane/disk"
)

// Left lists what there is of Heddle in the runtime's directories, one line for
// each.
func Left(confDir, binDir string) ([]string, error) {
	var left []string
	err := each(confDir, binDir, func(what string, _ func() error) error {
		left = append(left, what)
		return nil
	})
	return left, err
}

// Remove takes Heddle out of the runtime's directories: its entries, before its
// binary, which they need. It tells what it removed. It goes on after an error.
func Remove(confDir, binDir string) ([]string, error) {
	var removed []string
	err := each(confDir, binDir, func(what string, remove func() error) error {
		if err := remove(); err != nil {
			return err
		}
		removed = append(removed, what)
		return nil
	})
	return removed, err
}

// each calls do for everything of Heddle's, with how to remove it. Every file is
// looked at: another one may have been the first when the entry was made.
func each(confDir, binDir string, do func(what string, remove func() error) error) error {
	names, err := files(confDir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	errs := []error{err}
	for _, name := range names {
		path := filepath.Join(confDir, name)
		if filepath.Ext(name) != ".conflist" {
			continue
		}
		text, err := disk.Read(path, maxConf)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", path, err))
			continue
		}
		l, err := parse(text)
		if err != nil {
			if bytes.Contains(text, []byte(plugin.Type)) {
				errs = append(errs, fmt.Errorf("%s names %s, but %w: take it out by hand", path, plugin.Type, err))
			}
			continue
		}
		if l.ours() >= 0 {
			errs = append(errs, do("entry in "+path, func() error { return unchain(path, l) }))
		}
	}
	// Of a writer that was killed; runtimes do not read it.
	staged, err := filepath.Glob(filepath.Join(confDir, "*"+fresh))
	errs = append(errs, err)
	binary := filepath.Join(binDir, plugin.Type)
	for _, path := range append(staged, filepath.Join(confDir, wrapper), binary, binary+fresh) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, do("file "+path, func() error { return removeFile(path) }))
	}
	return errors.Join(errs...)
}

// unchain takes every entry of Heddle's out of a file.
func unchain(path string, l list) error {
	old := l.text
	for l.ours() >= 0 && len(l.elements) > 1 {
		var err error
		if l, err = parse(l.without()); err != nil {
			return fmt.Errorf("taking %s out of %s: %w", plugin.Type, path, err)
		}
	}
	if l.ours() >= 0 {
		return fmt.Errorf("%s has no plugin but %s: remove it by hand, or let its owner write it anew", path, plugin.Type)
	}
	return replace(path, old, l.text)
}
