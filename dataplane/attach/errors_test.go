package attach

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// wantError checks that an error says all of these.
func wantError(t testing.TB, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one that says %q", says)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func TestKernelNewEnough(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc": true, "5.15.0-91-generic": true, "10.0": true, "5.14.21": false, "4.19.0": false, "odd": true,
	} {
		if got := kernelNewEnough(release); got != want {
			t.Errorf("kernelNewEnough(%q) = %v", release, got)
		}
	}
}

// TestWithoutPrivileges runs as everybody can: an ordinary user gets told.
func TestWithoutPrivileges(t *testing.T) {
	onThread(t, func() error {
		if os.Geteuid() != 0 {
			return nil
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534) // of this thread alone
		if errno != 0 {
			return errno
		}
		return nil
	}, func() {
		_, err := Open(Options{Cgroup: "/sys/fs/cgroup", Pins: "/sys/fs/bpf/heddle-test"})
		wantError(t, err, "not permitted", "CAP_BPF", "CAP_NET_ADMIN", "run it as root")
	})
}

func TestMissingCapability(t *testing.T) {
	nettest.RequireBPF(t)
	onThread(t, func() error { return dropCapability(unix.CAP_BPF) }, func() {
		err := probeCapabilities()
		wantError(t, err, "lacks CAP_BPF:", "privileged")
	})
}

// onThread calls both functions on a thread that ends afterwards.
func onThread(t *testing.T, prepare func() error, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := prepare(); err != nil {
			t.Errorf("drop privileges: %v", err)
			return
		}
		fn()
	}()
	<-done
}

func dropCapability(bit uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[bit/32].Effective &^= 1 << (bit % 32)
	return unix.Capset(&header, &data[0])
}

func TestMissingTypeInformation(t *testing.T) {
	r := newRig(t)
	r.system.btf = "/nowhere/vmlinux"
	_, err := r.tryOpen()
	wantError(t, err, "/nowhere/vmlinux", "CONFIG_DEBUG_INFO_BTF")
}

func TestMissingCgroup(t *testing.T) {
	r := newRig(t)
	r.options.Cgroup += "/nowhere"
	_, err := r.tryOpen()
	wantError(t, err, "cgroup directory", "nowhere", "no such file", "findmnt -t cgroup2")
	r.options.Cgroup = t.TempDir()
	_, err = r.tryOpen()
	wantError(t, err, r.options.Cgroup, "not on a cgroup2", "findmnt -t cgroup2")
}

// TestPinsOfSomebodyElse: on a bpffs that everybody may write to, the directory
// may be there before the agent.
func TestPinsOfSomebodyElse(t *testing.T) {
	r := newRig(t)
	if err := os.Mkdir(r.options.Pins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(r.options.Pins, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := r.tryOpen()
	wantError(t, err, r.options.Pins, "belongs to uid 65534", "remove it")
	if err := os.Chown(r.options.Pins, os.Geteuid(), os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.options.Pins, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = r.tryOpen()
	wantError(t, err, r.options.Pins, "written to by others", "chmod 0700")
	if err := os.Chmod(r.options.Pins, 0o755); err != nil {
		t.Fatal(err)
	}
	r.open()
}

func TestPinsNotOnBpffs(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	r.options.Pins = filepath.Join(dir, "deep", "down")
	_, err := r.tryOpen()
	wantError(t, err, r.options.Pins, "not on a bpf file system", "mount -t bpf bpf "+dir)
	if _, err := os.Stat(filepath.Join(dir, "deep")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a directory was left behind")
	}
	r.options.Pins = dir
	wantError(t, Remove(r.options), "not on a bpf file system")
}

// TestBpffsIsMounted: the usual place gets a bpffs when it has none.
func TestBpffsIsMounted(t *testing.T) {
	r := newRig(t)
	r.system.bpffs = t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(r.system.bpffs, unix.MNT_DETACH) })
	r.options.Pins = filepath.Join(r.system.bpffs, "heddle", "node")
	onThread(t, func() error { return dropCapability(unix.CAP_SYS_ADMIN) }, func() {
		err := r.system.preparePins(r.options.Pins)
		wantError(t, err, "cannot be mounted", "as root run: mount -t bpf bpf "+r.system.bpffs)
	})
	r.open()
	if kind, err := fileSystem(r.options.Pins); err != nil || kind != unix.BPF_FS_MAGIC {
		t.Errorf("the pins are on %#x, %v", kind, err)
	}
	r.reopen()
}

func TestPinsAreLocked(t *testing.T) {
	r := newRig(t)
	k := r.open()
	_, err := r.tryOpen()
	wantError(t, err, "in use by another agent", r.options.Pins, "held by pid ", "stop it first")
	if !errors.Is(err, ErrLocked) {
		t.Errorf("error %v is not ErrLocked", err)
	}
	k.Close()
	r.open()
}

func TestBadOptions(t *testing.T) {
	r := newRig(t)
	good := r.options
	for _, test := range []struct {
		change func(*Options)
		says   []string
	}{
		{func(o *Options) { o.TC = "xdp" }, []string{`"xdp"`, "auto, tcx or clsact"}},
		{func(o *Options) { o.Limits = map[string]uint32{"hd_nothing": 1} }, []string{"hd_nothing", "no such map"}},
		{func(o *Options) { o.Limits = map[string]uint32{bpf.MapPods: 0} }, []string{bpf.MapPods, "at least 1"}},
		{func(o *Options) { o.Limits = map[string]uint32{bpf.MapConns: 7} }, []string{bpf.MapConns, "not a choice"}},
	} {
		r.options = good
		test.change(&r.options)
		_, err := r.tryOpen()
		wantError(t, err, test.says...)
	}
	r.options = good
	r.open() // what failed holds nothing
}

// TestMapCannotBeCreated: with the state that was there before left as it was.
func TestMapCannotBeCreated(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	r.serve(0, r.echoes()...)
	r.kernel.Close()
	r.options.Limits = map[string]uint32{bpf.MapStats: 1<<32 - 1}
	_, err := r.tryOpen()
	wantError(t, err, "create map hd_stats", "4294967295 entries", "lower its limit")
	wantGreeting(t, r.dial(r.client.NS, "tcp", vip(vip4).String()), "pod")
	r.options.Limits = nil
	r.open()
	r.checkConsistent()
}

// TestForeignPin: a file that is not Heddle's is named.
func TestForeignPin(t *testing.T) {
	r := newRig(t)
	k := r.open()
	dir := pins(r.options.Pins)
	foreign := dir.path(mapsDir, bpf.MapPods)
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	if err := r.programOf("hd_release").Pin(foreign); err != nil {
		t.Fatal(err)
	}
	k.Close()
	_, err := r.tryOpen()
	wantError(t, err, foreign, "remove that file")
}

func TestFeatures(t *testing.T) {
	r := newRig(t)
	k := r.open()
	seen := map[string]bool{}
	for _, f := range k.Features() {
		if f.Name == "" || f.Reason == "" || seen[f.Name] {
			t.Errorf("odd feature %+v", f)
		}
		seen[f.Name] = true
		t.Logf("%s=%v: %s", f.Name, f.On, f.Reason)
	}
	for _, name := range []string{"set_retval", "tcx", "storage_migration"} {
		if !seen[name] {
			t.Errorf("feature %s is missing", name)
		}
	}
}

// TestWithoutStorageMigration: a kernel that cannot walk socket storage makes
// old sockets forget, and breaks nothing else.
func TestWithoutStorageMigration(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	endpoints := r.echoes()
	r.serve(0, endpoints...)
	c := r.dial(r.client.NS, "tcp", vip(vip4).String())
	wantGreeting(t, c, "pod")
	r.nextRelease()
	r.system.walk = func(*ebpf.CollectionSpec) Feature {
		return Feature{storageMigration, false, "switched off by the test"}
	}
	r.reopen()
	withFD(t, c, func(fd int) { wantPeer(t, fd, endpoints[0]) })
	if err := exchange(c, "still connected"); err != nil {
		t.Error(err)
	}
	wantGreeting(t, r.dial(r.client.NS, "tcp", vip(vip4).String()), "pod")
}
