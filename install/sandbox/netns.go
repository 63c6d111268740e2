package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where named network namespaces are bind-mounted, as `ip netns`
// does, so that its commands see ours.
const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// inNetns runs fn on a thread that is in a network namespace. fn must not hand
// work to other goroutines: they run elsewhere.
func inNetns(name string, fn func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the present network namespace: %w", err)
	}
	defer home.Close()
	there, err := netns.GetFromPath(netnsPath(name))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	err = fn()
	if back := netns.Set(home); back != nil {
		// The thread stays locked, so the runtime ends it with the goroutine
		// and nobody else runs in the wrong namespace.
		return errors.Join(err, fmt.Errorf("return from network namespace %s: %w", name, back))
	}
	runtime.UnlockOSThread()
	return err
}

// makeNetns makes a named network namespace, with loopback up and IPv6 on, and
// leaves one that is there alone.
func makeNetns(name string) error {
	if isNetns(netnsPath(name)) {
		return nil
	}
	// What is left of a namespace whose mount is gone blocks the name.
	if err := os.Remove(netnsPath(name)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("clear the name of network namespace %s: %w", name, err)
	}
	if err := newNetns(name); err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return inNetns(name, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return setSysctls([][2]string{
			// New interfaces take the defaults, and a machine may have IPv6
			// off by default. Addresses are ours: detecting duplicates only
			// costs a second.
			{"net.ipv6.conf.all.disable_ipv6", "0"},
			{"net.ipv6.conf.default.disable_ipv6", "0"},
			{"net.ipv6.conf.lo.disable_ipv6", "0"},
			{"net.ipv6.conf.all.accept_dad", "0"},
			{"net.ipv6.conf.default.accept_dad", "0"},
			{"net.ipv6.conf.default.accept_ra", "0"},
			{"net.ipv6.conf.default.router_solicitations", "0"},
			{"net.ipv4.conf.all.rp_filter", "0"},
			{"net.ipv4.conf.default.rp_filter", "0"},
		})
	})
}

// newNetns makes the namespace; netns.NewNamed leaves the thread inside it.
func newNetns(name string) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	made, err := netns.NewNamed(name)
	if err == nil {
		made.Close()
	}
	if back := netns.Set(home); back != nil {
		return errors.Join(err, back) // thread stays locked, see inNetns
	}
	runtime.UnlockOSThread()
	return err
}

// isNetns reports whether a path is a mounted network namespace.
func isNetns(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// listNetns are the named network namespaces of the machine.
func listNetns() ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// removeNetns removes a named network namespace, with the interfaces in it.
func removeNetns(name string) error {
	path := netnsPath(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// setSysctls writes sysctls of the namespace the thread is in: /proc/sys/net
// shows that of the reader. Those of IPv6 are left out on a kernel without.
func setSysctls(settings [][2]string) error {
	for _, kv := range settings {
		path := "/proc/sys/" + strings.ReplaceAll(kv[0], ".", "/")
		err := os.WriteFile(path, []byte(kv[1]), 0)
		if os.IsNotExist(err) && strings.HasPrefix(kv[0], "net.ipv6.") {
			continue
		}
		if err != nil {
			return fmt.Errorf("set %s: %w (is /proc/sys mounted read-only, as in an unprivileged container?)", kv[0], err)
		}
	}
	return nil
}

func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}
