package nettest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// CgroupRoot returns where cgroup2 is mounted on this machine.
func CgroupRoot(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatalf("find cgroup2: %v", err)
	}
	for line := range strings.Lines(string(mounts)) {
		mount, source, ok := strings.Cut(line, " - ")
		if ok && strings.HasPrefix(source, "cgroup2 ") {
			return strings.Fields(mount)[4]
		}
	}
	t.Fatal("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
	return ""
}

// Cgroup creates an empty cgroup for the test and removes it, with all cgroups
// that the test made below it, when the test ends. Processes still in it are
// moved out, not ended.
func Cgroup(t testing.TB) string {
	t.Helper()
	root := CgroupRoot(t)
	for _, dir := range leftovers(root) {
		removeCgroup(dir)
	}
	dir := filepath.Join(root, uniqueName())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("create test cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(dir); err != nil {
			t.Errorf("remove test cgroup: %v", err)
		}
	})
	return dir
}

// removeCgroup removes dir and everything below it, children first.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		evacuate(d)
		err = errors.Join(err, os.Remove(d))
	}
	return err
}

// evacuate moves the processes of a cgroup to the parent of the test's cgroup.
func evacuate(dir string) {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	parent := dir
	for strings.Contains(parent, prefix) {
		parent = filepath.Dir(parent)
	}
	for _, pid := range strings.Fields(string(procs)) {
		_ = os.WriteFile(filepath.Join(parent, "cgroup.procs"), []byte(pid), 0)
	}
}

// Join moves the test process into the cgroup at dir until the test ends.
// Sockets created meanwhile belong to that cgroup for good; tests that join
// must therefore not run in parallel.
func Join(t testing.TB, dir string) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatalf("find own cgroup: %v", err)
	}
	home := CgroupRoot(t)
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			home = filepath.Join(home, path)
		}
	}
	move := func(dir string) error {
		pid := strconv.Itoa(os.Getpid())
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0)
	}
	if err := move(dir); err != nil {
		t.Fatalf("join cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := move(home); err != nil {
			t.Errorf("return to cgroup: %v", err)
		}
	})
}

// CgroupID returns the kernel's id of the cgroup at dir, as
// bpf_get_current_cgroup_id reports it.
func CgroupID(t testing.TB, dir string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatalf("stat cgroup %s: %v", dir, err)
	}
	return st.Ino
}
