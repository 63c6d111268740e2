package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Places in the guest. In the archive they have no slash in front.
const (
	planFile   = "/plan.json"
	moduleDir  = "/modules"
	binDir     = "/bin"
	packageDir = "/package" // a test runs where its package's files are
)

// plan is what the host tells the guest to do.
type plan struct {
	Programs  []program `json:"programs"`
	Only      string    `json:"only,omitempty"` // tests to run, those of the programs when empty
	Modules   []string  `json:"modules"`        // loaded first
	Conntrack []string  `json:"conntrack"`      // loaded after an agent ran without them
}

// writeImage writes the guest's root file system. bin is where build put the
// binaries.
func writeImage(ctx context.Context, w io.Writer, k *kernel, bin string, tests selection) error {
	a := newArchive(w)
	for _, m := range mounts {
		a.directory(m.on[1:])
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	a.copy("init", self)
	a.copy(binDir[1:]+"/heddled", filepath.Join(bin, "heddled"))
	for _, p := range tests.programs {
		a.copy(path.Join(binDir[1:], p.binary()), filepath.Join(bin, p.binary()))
		a.source(path.Join(packageDir[1:], p.Package), p.Package)
	}
	files, err := toolFiles(ctx, tools)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		a.copy(name[1:], files[name])
	}
	for _, name := range slices.Sorted(maps.Keys(k.modules)) {
		a.file(path.Join(moduleDir[1:], name), k.modules[name])
	}
	text, err := json.Marshal(plan{
		Programs: tests.programs, Only: tests.only, Modules: k.has(modules), Conntrack: k.has(conntrackModules),
	})
	if err != nil {
		return err
	}
	a.file(planFile[1:], text)
	return a.close()
}
