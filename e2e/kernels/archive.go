package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive is a cpio archive in the "newc" format, the one that the kernel
// unpacks as its first root file system. The first error stays.
type archive struct {
	w     io.Writer
	inode int
	made  map[string]bool // directories
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, made: map[string]bool{".": true}}
}

// directory adds a directory, after those above it.
func (a *archive) directory(name string) {
	if a.made[name] {
		return
	}
	a.made[name] = true
	a.directory(path.Dir(name))
	a.entry(name, 0o040755, nil)
}

// file adds a file that may be executed.
func (a *archive) file(name string, data []byte) {
	a.directory(path.Dir(name))
	a.entry(name, 0o100755, data)
}

// copy adds a file of the host.
func (a *archive) copy(name, from string) {
	if a.err != nil {
		return
	}
	data, err := os.ReadFile(from)
	if err != nil {
		a.err = err
		return
	}
	a.file(name, data)
}

// source adds what tests of a package may read of it: its files and testdata.
func (a *archive) source(name, from string) {
	if a.err != nil {
		return
	}
	a.directory(name)
	a.err = filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if d.IsDir() && rel != "." && !strings.HasPrefix(rel, "testdata") {
			return filepath.SkipDir // another package
		}
		if d.Type().IsRegular() {
			a.copy(path.Join(name, filepath.ToSlash(rel)), file)
		}
		return a.err
	})
}

// close ends the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

// entry writes a header of eight-digit hexadecimal fields and the name, then
// the data, each padded to four bytes.
func (a *archive) entry(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	var header strings.Builder
	header.WriteString("070701")
	for _, field := range []int{
		a.inode, mode, 0, 0, // user, group
		1, 0, len(data), // links, time
		0, 0, 0, 0, // device of the file, and the device that it is
		len(name) + 1, 0, // no checksum
	} {
		fmt.Fprintf(&header, "%08X", field)
	}
	header.WriteString(name + "\x00")
	for _, part := range []string{header.String(), string(data)} {
		if _, a.err = io.WriteString(a.w, part+strings.Repeat("\x00", -len(part)&3)); a.err != nil {
			return
		}
	}
}
