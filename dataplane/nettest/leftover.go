package nettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Everything that outlives a process carries its pid in the name, so that the
// next test run can remove what a killed one left behind.
const prefix = "heddle-test-"

var serial atomic.Uint64

func uniqueName() string {
	return fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), serial.Add(1))
}

// leftovers returns the entries of dir that belong to test processes that no
// longer exist.
func leftovers(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var dead []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(rest, "-")[0])
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			dead = append(dead, filepath.Join(dir, e.Name()))
		}
	}
	return dead
}
