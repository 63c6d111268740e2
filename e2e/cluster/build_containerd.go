package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// runtimeDir, below Options.Bin, has what BuildContainerd builds.
const runtimeDir = "containerd2"

// runtimePrograms are those that a node takes from there with
// Options.UserNamespaces, and else from Debian.
var runtimePrograms = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"}

// BuildContainerd makes what Options.UserNamespaces needs besides what Build
// makes: a containerd and a runc that are newer than Debian's. It takes a minute
// and a half when nothing is cached, and for runc a C compiler and libseccomp. The
// result is kept as that of Build is.
func BuildContainerd(ctx context.Context, root string, log io.Writer) error {
	b, err := newBuilder(ctx, root, log, "containerd/go.mod", "containerd/go.sum")
	if err != nil {
		return fmt.Errorf("find out which version of containerd to build: %w", err)
	}
	if err := alone(filepath.Dir(b.foreign), func() error { return b.whole(b.runtime) }); err != nil {
		return fmt.Errorf("build containerd for the test cluster: %w", err)
	}
	return alone(b.bin, func() error { return link(b.foreign, filepath.Join(b.bin, runtimeDir)) })
}

func (b *builder) runtime(into string) error {
	const containerd, runc = "github.com/containerd/containerd/v2", "github.com/opencontainers/runc"
	module := filepath.Join(b.source, "containerd")
	versions, err := b.output(module, "go", "list", "-mod=readonly", "-m", "-f", "{{.Version}}", containerd, runc)
	if err != nil {
		return err
	}
	version := strings.Fields(versions)
	if len(version) != 2 {
		return fmt.Errorf("go list says %q, not two versions", versions)
	}
	flags := "-s -w -X " + containerd + "/version.Version=" + version[0]
	for _, p := range []program{
		{name: "containerd", pkg: containerd + "/cmd/containerd", flags: flags, tags: "no_btrfs,no_devmapper,no_zfs,no_aufs"},
		{name: "containerd-shim-runc-v2", pkg: containerd + "/cmd/containerd-shim-runc-v2", flags: flags},
		{name: "ctr", pkg: containerd + "/cmd/ctr", flags: flags},
		{name: "runc", pkg: runc, flags: "-s -w -X main.version=" + strings.TrimPrefix(version[1], "v"), tags: "seccomp", cgo: true},
	} {
		p.module, p.what = module, p.name
		if err := b.program(into, p); err != nil {
			return err
		}
	}
	return nil
}

// link makes a symbolic link, or leaves it when it is there.
func link(from, to string) error {
	if old, err := os.Readlink(to); err == nil && old == from {
		return nil
	}
	return errors.Join(os.RemoveAll(to), os.Symlink(from, to))
}
