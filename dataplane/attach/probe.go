package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what Open expects of the machine; tests point it elsewhere.
type machine struct {
	bpffs string // where a bpffs is mounted when there is none
	btf   string // the kernel's type information
}

var thisMachine = machine{bpffs: "/sys/fs/bpf", btf: "/sys/kernel/btf/vmlinux"}

// probe reports the first reason why Heddle cannot run here, and what to do
// about it. When all is well the pins directory exists, on a bpffs.
func (m machine) probe(cgroup, pins string) error {
	if err := probeKernel(); err != nil {
		return err
	}
	if err := probeCapabilities(); err != nil {
		return err
	}
	if _, err := os.Stat(m.btf); err != nil {
		return fmt.Errorf("the kernel offers no type information (%w): use a kernel built with CONFIG_DEBUG_INFO_BTF=y", err)
	}
	if err := probeCgroup(cgroup); err != nil {
		return err
	}
	return m.preparePins(pins)
}

func probeKernel() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("read the kernel version: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if !kernelNewEnough(release) {
		return fmt.Errorf("kernel %s is too old: Heddle needs Linux 5.15 or newer", release)
	}
	return nil
}

// kernelNewEnough lets a release pass that it cannot read: what is missing
// then shows when the objects are loaded.
func kernelNewEnough(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return true
	}
	return major > 5 || major == 5 && minor >= 15
}

// probeCapabilities checks what every part of Heddle needs. SYS_ADMIN is for
// entering pods' network namespaces and for reading the layout of pinned maps.
func probeCapabilities() error {
	needed := []struct {
		bit  uint
		name string
	}{
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
		{unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_BPF, "CAP_BPF"},
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	var missing []string
	for _, c := range needed {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing != nil {
		return fmt.Errorf("not permitted: the process lacks %s: run it as root, or in a privileged container", strings.Join(missing, ", "))
	}
	return nil
}

func probeCgroup(dir string) error {
	kind, err := fileSystem(dir)
	if err != nil {
		return fmt.Errorf("cgroup directory: %w: mount cgroup2 and name a directory in it (findmnt -t cgroup2 shows where it is)", err)
	}
	if kind != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("cgroup directory %s is not on a cgroup2 file system: findmnt -t cgroup2 shows where it is mounted", dir)
	}
	return nil
}

// preparePins makes sure that the pins directory exists on a bpffs, and mounts
// the usual one when the machine has none.
func (m machine) preparePins(dir string) error {
	parent, kind, err := nearest(dir)
	if err != nil {
		return fmt.Errorf("pins directory %s: %w", dir, err)
	}
	if kind != unix.BPF_FS_MAGIC {
		if rel, err := filepath.Rel(m.bpffs, dir); err != nil || strings.HasPrefix(rel, "..") {
			return fmt.Errorf("pins directory %s is not on a bpf file system (%s is not): choose a directory below %s, or mount one: mount -t bpf bpf %s", dir, parent, m.bpffs, parent)
		}
		if inContainer() {
			return fmt.Errorf("no bpf file system at %s, and one that a container mounts ends with it: on the node run: mount -t bpf bpf %s (systemd does at boot)", m.bpffs, m.bpffs)
		}
		if err := unix.Mount("bpf", m.bpffs, "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("no bpf file system at %s and it cannot be mounted: %w: as root run: mount -t bpf bpf %s", m.bpffs, err, m.bpffs)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create pins directory: %w", err)
	}
	return ownedPins(dir)
}

// inContainer reports whether this process has other mounts than the machine's
// first process, as far as it can see that one.
func inContainer() bool {
	own, errOwn := os.Readlink("/proc/self/ns/mnt")
	first, errFirst := os.Readlink("/proc/1/ns/mnt")
	return errOwn == nil && errFirst == nil && own != first
}

// ownedPins refuses a directory that somebody else made or may write to, where
// bpffs lets everybody make one, as it does unless mounted otherwise: whoever
// can remove pins can take Heddle out of the kernel.
func ownedPins(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat pins directory", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("pins directory %s is no directory: remove it, or choose another one", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("pins directory %s belongs to uid %d, who could take Heddle out of the kernel: remove it, or choose another one", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("pins directory %s may be written to by others, who could take Heddle out of the kernel: chmod 0700 %s", dir, dir)
	}
	return nil
}

// nearest returns the closest ancestor of path that exists, or path itself,
// and the kind of file system it is on.
func nearest(path string) (string, int64, error) {
	for {
		kind, err := fileSystem(path)
		if !errors.Is(err, os.ErrNotExist) || path == filepath.Dir(path) {
			return path, kind, err
		}
		path = filepath.Dir(path)
	}
}

// fileSystem returns the magic number of the file system that path is on.
func fileSystem(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Type), nil
}
