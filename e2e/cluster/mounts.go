package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountAll gives the node, inside its own mount namespace, its own view of the
// machine. Paths, ports and sockets are the usual ones on every node.
func (s *nodeSpec) mountAll() error {
	// Nothing of what follows may reach the machine.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	hierarchies, err := hierarchies()
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return mount("proc", "/proc", "proc", 0, "") },
		func() error { return mount("sysfs", "/sys", "sysfs", 0, "") },
		func() error { return s.mountCgroups(hierarchies) },
		func() error { return mount("bpf", "/sys/fs/bpf", "bpf", 0, "") },
		func() error { return mount("tmpfs", "/run", "tmpfs", 0, "mode=755") },
		s.mountDisk,
		cleanProc,
		func() error { return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
		coverSysctls,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountCgroups shows cgroups from the node's own as their root: cgroup2 alone,
// as most hosts of today have it, or as the machine has them.
func (s *nodeSpec) mountCgroups(hierarchies []string) error {
	if !s.Hybrid {
		return mount("cgroup2", cgroupRoot, "cgroup2", 0, "")
	}
	if err := mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, h := range hierarchies {
		if err := os.Mkdir(h, 0o755); err != nil {
			return err
		}
		var err error
		switch name := filepath.Base(h); name {
		case "unified":
			err = mount("cgroup2", h, "cgroup2", 0, "")
		case "systemd":
			err = mount("cgroup", h, "cgroup", 0, "none,name=systemd")
		default:
			err = mount("cgroup", h, "cgroup", 0, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mountDisk keeps what the node writes in its own directory. In /etc, /opt and
// /var/lib the node sees the machine's files below its changes. The directories
// of the kubelet, containerd and CNI begin empty, on a plain file system:
// containerd's snapshots are overlays, which cannot be on another overlay.
func (s *nodeSpec) mountDisk() error {
	for _, dir := range []string{"/etc", "/opt", "/var/lib"} {
		upper, work := filepath.Join(s.Disk, "changes", dir), filepath.Join(s.Disk, "work", dir)
		if err := mkdirs(upper, work); err != nil {
			return err
		}
		options := "lowerdir=" + dir + ",upperdir=" + upper + ",workdir=" + work
		if err := mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("%w: the directory of a cluster has to be on a disk or a tmpfs, not on an overlay", err)
		}
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log", "/etc/cni", "/opt/cni"} {
		own := filepath.Join(s.Disk, dir)
		if err := mkdirs(own, dir); err != nil {
			return err
		}
		if err := mount(own, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return mkdirs("/opt/cni/bin", "/etc/cni/net.d", "/run/containerd", "/run/netns", "/var/log/pods")
}

// cleanProc mounts a second proc, with nothing above its files. The kernel lets
// a user namespace mount proc only where one like that can be seen, and
// coverSysctls covers files of the first.
func cleanProc() error {
	const dir = "/run/.proc"
	if err := mkdirs(dir); err != nil {
		return err
	}
	return mount("proc", dir, "proc", 0, "")
}

// coverSysctls gives the kubelet files of its own for what it sets, which
// would be the whole machine's.
func coverSysctls() error {
	for _, name := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		sysctl := "/proc/sys/" + name
		b, err := os.ReadFile(sysctl)
		if err != nil {
			return err
		}
		own := "/run/sysctl-" + strings.ReplaceAll(name, "/", "-")
		if err := os.WriteFile(own, b, 0o644); err != nil {
			return err
		}
		if err := mount(own, sysctl, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s (%s): %w", source, target, options, err)
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// install copies the CNI plugins and writes the configuration files.
func (s *nodeSpec) install() error {
	if _, err := os.Stat(filepath.Join(s.Bin, "kubelet")); err != nil {
		return fmt.Errorf("the binaries cannot be seen inside the node: %w", err)
	}
	for _, plugin := range plugins {
		b, err := os.ReadFile(filepath.Join(s.CNI, plugin))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("/opt/cni/bin", plugin), b, 0o755); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		containerdConfig:                 s.containerd(),
		kubeletConfig:                    s.kubeletFile(),
		"/run/resolv.conf":               "nameserver " + DNS + "\n",
		"/etc/cni/net.d/10-e2e.conflist": s.conflist(),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plugins of CNI that every node has.
var plugins = []string{"ptp", "host-local", "loopback", "portmap", "bridge"}

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
