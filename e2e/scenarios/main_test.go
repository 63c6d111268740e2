package scenarios

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/e2e/peer"
)

var (
	soak        = flag.Duration("soak", 10*time.Second, "how long processes are killed again and again")
	connections = flag.Int("connections", 100_000, "connections for each set of weights")
)

// bin is the directory of the built binaries, and of this one as peer; next is
// the agent of a later release, whose maps have another layout.
var bin, next string

func TestMain(m *testing.M) {
	// Pods run this binary under the name peer.
	if filepath.Base(os.Args[0]) == "peer" {
		os.Exit(peer.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every scenario says that it needs root
	}
	// The sandbox has one name, so that a run finds what a killed one left: runs
	// take turns.
	turn, err := os.OpenFile(filepath.Join(os.TempDir(), "heddle-e2e.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		defer turn.Close()
		err = unix.Flock(int(turn.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wait for another run of the scenarios:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "heddle-scenarios-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(dir string) error {
	bin, next = dir, filepath.Join(dir, "next", "heddled")
	for _, args := range [][]string{
		{"build", "-o", bin + "/", "./cmd/..."},
		{"build", "-tags", "heddle_next", "-o", next, "./cmd/heddled"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Symlink(self, filepath.Join(bin, "peer"))
}
