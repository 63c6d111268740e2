package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownChild is the cgroup that the agent makes for itself when it was started
// in the cgroup root that it captures.
const ownChild = "heddle-agent"

// ownCgroups returns the ids of the cgroups whose sockets are Heddle's own:
// the one this process is in, if the hooks at root see it at all.
//
// The hooks run for sockets of root and below. In root itself the agent would
// share its cgroup with processes that are not Heddle's, and exempting all of
// them would be a hole; so it moves into a child. Under Kubernetes and systemd
// it has a cgroup of its own already.
func ownCgroups(root string) ([]uint64, error) {
	own, err := ownCgroup("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	rootID, err := cgroupID(root)
	if err != nil {
		return nil, err
	}
	ownID, err := cgroupID(own)
	if err != nil {
		return nil, err
	}
	if ownID == rootID {
		if own, err = moveIntoChild(root); err != nil {
			return nil, err
		}
		ownID, err = cgroupID(own)
		return []uint64{ownID}, err
	}
	below, err := isBelow(own, rootID)
	if err != nil || !below {
		return nil, err // out of the hooks' sight
	}
	return []uint64{ownID}, nil
}

// cgroupID is the kernel's 64-bit id of a cgroup: the inode of its directory.
func cgroupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", dir, err)
	}
	return st.Ino, nil
}

// isBelow climbs from dir to the top of its file system, looking for root by
// id: the two paths may come from different mounts.
func isBelow(dir string, root uint64) (bool, error) {
	for {
		var fsInfo unix.Statfs_t
		if err := unix.Statfs(dir, &fsInfo); err != nil {
			return false, fmt.Errorf("cgroup %s: %w", dir, err)
		}
		if fsInfo.Type != unix.CGROUP2_SUPER_MAGIC {
			return false, nil
		}
		id, err := cgroupID(dir)
		if err != nil {
			return false, err
		}
		if id == root {
			return true, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return false, nil
		}
		dir = parent
	}
}

// moveIntoChild puts the process into a child of root and returns it. The
// child that an earlier agent made is used again.
func moveIntoChild(root string) (string, error) {
	child := filepath.Join(root, ownChild)
	if err := os.Mkdir(child, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making a cgroup for the agent: %w", err)
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(child, "cgroup.procs"), []byte(pid), 0o644); err != nil {
		return "", fmt.Errorf("moving the agent into its own cgroup %s: %w", child, err)
	}
	return child, nil
}

// ownCgroup finds the directory of this process's cgroup from the files of
// proc(5): the path in one, the mount that shows it in the other.
func ownCgroup(cgroupFile, mountinfoFile string) (string, error) {
	path, err := cgroupPath(cgroupFile)
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile(mountinfoFile)
	if err != nil {
		return "", fmt.Errorf("finding the agent's own cgroup: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		mount, source, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if !ok || !strings.HasPrefix(source, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		root, at := unescape(fields[3]), unescape(fields[4])
		rest, ok := within(path, root)
		if !ok {
			continue
		}
		dir := filepath.Join(at, rest)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the agent's own cgroup %s is below no cgroup2 mount: mount cgroup2 (in a container: share the node's cgroup namespace)", path)
}

// cgroupPath returns the process's path in the cgroup2 hierarchy.
func cgroupPath(file string) (string, error) {
	own, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("finding the agent's own cgroup: %w", err)
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("the agent is in no cgroup2 hierarchy: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)")
}

// within returns path relative to root. Both are as the reader's cgroup
// namespace shows them; above it there is only "..", which names nothing.
func within(path, root string) (string, bool) {
	if strings.HasPrefix(path, "/..") || strings.HasPrefix(root, "/..") {
		return "", path == root
	}
	if root == "/" {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, root)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// unescape undoes the octal escapes of mountinfo: space, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// cgroupRoot returns where the node's cgroup2 hierarchy is mounted.
func cgroupRoot(mountinfoFile string) (string, error) {
	mounts, err := os.ReadFile(mountinfoFile)
	if err != nil {
		return "", fmt.Errorf("finding cgroup2: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		mount, source, ok := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); ok && strings.HasPrefix(source, "cgroup2 ") && len(fields) >= 5 {
			return unescape(fields[4]), nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or name a directory with --cgroup")
}
