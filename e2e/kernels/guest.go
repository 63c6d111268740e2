package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mounts are the guest's file systems, in the order of mounting.
var mounts = []struct{ kind, on string }{
	{"proc", "/proc"},
	{"sysfs", "/sys"},
	{"devtmpfs", "/dev"},
	{"tmpfs", "/tmp"},
	{"tmpfs", "/run"},
	{"cgroup2", "/sys/fs/cgroup"},
	{"bpf", "/sys/fs/bpf"},
}

// reportDevice is the guest's second serial port. The first is the kernel's.
const reportDevice = "/dev/ttyS1"

// guest is process 1 of the guest. It ends by switching the machine off, also
// when it could not do its work: the host waits for that.
func guest() {
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err) // to the console, which the host shows
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func work() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.on, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.on, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.on, err)
		}
	}
	port, err := openReport()
	if err != nil {
		return err
	}
	defer port.Close()
	reports := &reporter{json.NewEncoder(port)}
	if err := perform(reports); err != nil {
		reports.send(record{Kind: broken, Text: err.Error()})
		return err
	}
	reports.send(record{Kind: finished})
	return nil
}

// openReport opens the port to the host, as a line that changes no byte.
func openReport() (*os.File, error) {
	port, err := os.OpenFile(reportDevice, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200}
	raw.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set up %s: %w", reportDevice, err)
	}
	return port, nil
}

// reporter sends records to the host. Its methods are called from one
// goroutine.
type reporter struct{ *json.Encoder }

// send cannot fail in a way that anybody could be told of: the host misses the
// last record then, and shows the console.
func (r *reporter) send(what record) { _ = r.Encode(what) }

// perform does what the plan says.
func perform(reports *reporter) error {
	text, err := os.ReadFile(planFile)
	if err != nil {
		return err
	}
	var todo plan
	if err := json.Unmarshal(text, &todo); err != nil {
		return fmt.Errorf("%s: %w", planFile, err)
	}
	var uptime float64
	if text, err := os.ReadFile("/proc/uptime"); err == nil {
		_, _ = fmt.Fscan(strings.NewReader(string(text)), &uptime)
	}
	reports.send(record{Kind: booted, Text: release(), Seconds: uptime})

	if err := loadModules(todo.Modules); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback up: %w", err)
	}

	// Falling back shows on the same kernel: first it has no functions of
	// connection tracking for BPF, then it has. The tests run with them.
	if _, err := reports.runAgent(withoutConntrack); err != nil {
		return err
	}
	if err := loadModules(todo.Conntrack); err != nil {
		return err
	}
	off, err := reports.runAgent(withConntrack)
	if err != nil {
		return err
	}
	for _, p := range todo.Programs {
		reports.runProgram(p, todo.Only, off)
	}
	return nil
}

func release() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// runAgent runs an agent, reports what it found, and returns the names of the
// mechanisms that are off.
func (r *reporter) runAgent(circumstances string) (off []string, err error) {
	status, err := startAgent()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", circumstances, err)
	}
	r.send(record{Kind: agent, Text: circumstances})
	for _, f := range status.Features {
		r.send(record{Kind: feature, Text: f.Name, On: f.On, Why: f.Reason})
		if !f.On {
			off = append(off, f.Name)
		}
	}
	return off, nil
}

func loadModules(names []string) error {
	for _, name := range names {
		if err := loadModule(filepath.Join(moduleDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// loadModule loads a module as Debian packages it: since 6.12 compressed, by a
// kernel that can decompress.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return fmt.Errorf("read module %s: %w", path, err)
	}
	flags := 0
	if string(magic) != "\x7fELF" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil {
		return fmt.Errorf("load module %s: %w: if it uses another module, list that before it in e2e/kernels/deb.go", filepath.Base(path), err)
	}
	return nil
}
