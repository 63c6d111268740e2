package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// components are the names that the binary of all of Kubernetes goes by.
var components = []string{Etcd, APIServer, ControllerManager, Scheduler, Kubelet, KubeProxy, "kubectl"}

// Build makes what clusters need besides Debian's packages, and returns the
// directory that Options has as Bin: .build/cluster/bin of the repository at
// root. Kubernetes takes minutes when nothing is cached; it is kept below
// .build/cluster, or below $HEDDLE_CLUSTER_CACHE for more than one checkout, until
// a version changes. What is Heddle's own is always built anew.
func Build(ctx context.Context, root string, log io.Writer) (string, error) {
	b, err := newBuilder(ctx, root, log,
		"kubernetes/go.mod", "kubernetes/go.sum", "kubernetes/main.go", "coredns/go.mod", "coredns/go.sum", "coredns/main.go")
	if err != nil {
		return "", fmt.Errorf("find out which versions of Kubernetes and CoreDNS to build: %w", err)
	}
	if err := alone(filepath.Dir(b.foreign), func() error { return b.whole(b.kubernetes) }); err != nil {
		return "", fmt.Errorf("build Kubernetes for the test cluster: %w", err)
	}
	if err := alone(b.bin, b.buildOwn); err != nil {
		return "", fmt.Errorf("build the images of the test cluster: %w", err)
	}
	return b.bin, nil
}

// alone runs f while no other process builds in a directory.
func alone(dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	turn, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer turn.Close()
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return f()
}

type builder struct {
	ctx     context.Context
	root    string // of the repository
	source  string // of this package
	foreign string // where the foreign binaries are kept
	bin     string // where everything is
	log     io.Writer
}

// newBuilder finds the directories. That of the foreign binaries is named by
// everything that they are made of: Go, and these files of this directory.
func newBuilder(ctx context.Context, root string, log io.Writer, files ...string) (*builder, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, root: root, source: filepath.Join(root, "e2e", "cluster"), log: log}
	b.bin = filepath.Join(root, ".build", "cluster", "bin")
	cache := os.Getenv("HEDDLE_CLUSTER_CACHE")
	if cache == "" {
		cache = filepath.Dir(b.bin)
	}
	h := sha256.New()
	version, err := b.output(b.root, "go", "env", "GOVERSION", "GOARCH")
	if err != nil {
		return nil, err
	}
	io.WriteString(h, version)
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(text))
		h.Write(text)
	}
	b.foreign = filepath.Join(cache, fmt.Sprintf("%x", h.Sum(nil)[:8]))
	return b, nil
}

// whole makes the directory of foreign binaries, unless it is there. It appears
// when it is whole.
func (b *builder) whole(fill func(into string) error) error {
	if exists(b.foreign) {
		return nil
	}
	part := b.foreign + ".part"
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil {
		return err
	}
	if err := fill(part); err != nil {
		return err
	}
	return os.Rename(part, b.foreign)
}

// A program is a foreign one that is built of a module.
type program struct {
	what, module, name, pkg, flags, tags string
	cgo                                  bool
}

func (b *builder) program(into string, p program) error {
	fmt.Fprintf(b.log, "building %s\n", p.what)
	began := time.Now()
	cgo := "CGO_ENABLED=0"
	if p.cgo {
		cgo = "CGO_ENABLED=1"
	}
	_, err := b.output(p.module, "env", cgo, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
		"-tags", p.tags, "-ldflags", p.flags, "-o", filepath.Join(into, p.name), p.pkg)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "  built in %.0f s\n", time.Since(began).Seconds())
	return nil
}

func (b *builder) kubernetes(into string) error {
	kubernetes := filepath.Join(b.source, "kubernetes")
	flags, err := b.versionFlags(kubernetes)
	if err != nil {
		return err
	}
	for _, p := range []program{
		{what: "Kubernetes and etcd (six minutes of two cores if nothing is cached)", module: kubernetes, name: "kubernetes", flags: flags, pkg: "."},
		{what: "kwok", module: kubernetes, name: "kwok", flags: "-s -w", pkg: "sigs.k8s.io/kwok/cmd/kwok"},
		{what: "CoreDNS", module: filepath.Join(b.source, "coredns"), name: "coredns", flags: "-s -w", pkg: "."},
	} {
		if err := b.program(into, p); err != nil {
			return err
		}
	}
	for _, name := range components {
		if err := os.Symlink("kubernetes", filepath.Join(into, name)); err != nil {
			return err
		}
	}
	return b.stages(kubernetes, filepath.Join(into, "kwok-stages.yaml"))
}

// versionFlags tell the components which release they are, for the linker.
func (b *builder) versionFlags(module string) (string, error) {
	version, err := b.output(module, "go", "list", "-mod=readonly", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	version = strings.TrimSpace(version)
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
	flags := "-s -w"
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, v := range []string{
			"gitVersion=" + version, "gitMajor=1", "gitMinor=" + minor, "gitTreeState=clean",
			"gitCommit=0000000000000000000000000000000000000000", "buildDate=1970-01-01T00:00:00Z",
		} {
			flags += " -X " + pkg + "." + v
		}
	}
	return flags, nil
}

// stages collects, from kwok's module, how its nodes and pods come and go.
func (b *builder) stages(module, out string) error {
	dir, err := b.output(module, "go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	if err != nil {
		return err
	}
	var all bytes.Buffer
	for _, name := range []string{
		"node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
		"pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete",
	} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(dir), "kustomize", "stage", name+".yaml"))
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "---\n%s", text)
	}
	return os.WriteFile(out, all.Bytes(), 0o644)
}

// link puts the foreign binaries beside Heddle's own.
func (b *builder) link() error {
	entries, err := os.ReadDir(b.foreign)
	for _, e := range entries {
		err = errors.Join(err, link(filepath.Join(b.foreign, e.Name()), filepath.Join(b.bin, e.Name())))
	}
	return err
}

// buildOwn builds what is Heddle's: the programs of nodes and pods, and their
// images.
func (b *builder) buildOwn() error {
	if err := b.link(); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: install Debian's busybox-static (.ci/setup cluster)", err)
	}
	if err := static(busybox); err != nil {
		return err
	}
	images := filepath.Join(b.bin, "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	for name, pkg := range map[string]string{
		"pause": "./e2e/cluster/pause", "runtime": "./e2e/cluster/runtime",
		"fetch": "./e2e/cluster/fetch", "heddlectl": "./cmd/heddlectl",
	} {
		_, err := b.output(b.root, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.bin, name), pkg)
		if err != nil {
			return err
		}
	}
	pause := []file{{path: "/pause", from: filepath.Join(b.bin, "pause")}}
	if err := writeImage(filepath.Join(images, "pause.tar"), PauseImage, []string{"/pause"}, pause); err != nil {
		return err
	}
	peer := []file{
		{path: "/heddlectl", from: filepath.Join(b.bin, "heddlectl")},
		{path: "/fetch", from: filepath.Join(b.bin, "fetch")},
		{path: "/bin/busybox", from: busybox},
	}
	for _, name := range []string{
		"sh", "cat", "ls", "ps", "id", "env", "true", "grep", "sleep", "timeout", "date", "seq", "ip", "nc", "ping", "nslookup",
	} {
		peer = append(peer, file{path: "/bin/" + name, link: "busybox"})
	}
	return writeImage(filepath.Join(images, "peer.tar"), PeerImage, []string{"/heddlectl", "echo", "--http=:8080"}, peer)
}

// static refuses a program that would need libraries in the image.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("look into %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static: install Debian's busybox-static (.ci/setup cluster)", path)
		}
	}
	return nil
}

func (b *builder) output(dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out), nil
}
