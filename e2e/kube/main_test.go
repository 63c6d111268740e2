package kube

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/e2e/cluster"
)

const (
	system    = "heddle-system"
	peerImage = "heddle-e2e.test/traffic:1"

	// The version that is installed, and the one of an upgrade, whose maps have
	// another layout.
	version, nextVersion = "0.4.0", "0.5.0"
)

var (
	bin      string   // directory of the built commands
	binaries string   // directory of Kubernetes' own
	images   []string // archives: of both versions, and of the traffic
	// peerBinary is this binary under the name that makes it traffic.
	peerBinary string
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "peer" {
		os.Exit(inPod(os.Args[1:]))
	}
	cluster.Main()
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every scenario says that it needs root
	}
	dir, err := os.MkdirTemp("", "heddle-kube-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	tellAgain(os.Stdout)
	return code
}

// requireCluster says what a scenario cannot do without.
func requireCluster(t *testing.T) {
	t.Helper()
	nettest.RequireBPF(t)
}

// build makes the commands and images as `make build` and `make images` do, and
// Kubernetes where its binaries are not there yet.
func build(dir string) error {
	var err error
	if binaries, err = cluster.Build(context.Background(), "../..", os.Stderr); err != nil {
		return err
	}
	for _, release := range []struct{ version, tags string }{{version, ""}, {nextVersion, "heddle_next"}} {
		to := filepath.Join(dir, release.version)
		if err := command("go", "build", "-tags="+release.tags, "-ldflags=-s -w", "-o", to+"/", "./cmd/..."); err != nil {
			return err
		}
		if err := command(filepath.Join(to, "heddlectl"), "images", "--version="+release.version, "--dir="+to); err != nil {
			return err
		}
		archives, err := filepath.Glob(filepath.Join(to, "*.tar"))
		if err != nil {
			return err
		}
		images = append(images, archives...)
	}
	bin = filepath.Join(dir, version)
	// Linked statically, whatever this binary is: images have no libraries.
	peerBinary = filepath.Join(dir, "peer")
	if err := command("go", "test", "-c", "-o", peerBinary, "./e2e/kube"); err != nil {
		return err
	}
	traffic := filepath.Join(dir, "traffic.tar")
	images = append(images, traffic)
	return cluster.WriteImage(traffic, peerImage, map[string]string{"/peer": peerBinary})
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
