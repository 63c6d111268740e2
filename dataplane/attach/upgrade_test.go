package attach

import (
	"errors"
	"fmt"

	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/bpf/bpftest"
	"heddle.io/heddle/dataplane/nettest"
)

// pinnedLinks returns the link and program ids of every pinned hook.
func (r *rig) pinnedLinks() map[string]*link.Info {
	r.Helper()
	found := map[string]*link.Info{}
	dir := pins(r.options.Pins)
	names, err := dir.names(linksDir)
	if err != nil {
		r.Fatal(err)
	}
	for _, name := range names {
		l, err := openLink(dir.path(linksDir, name))
		if err != nil {
			r.Fatal(err)
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			r.Fatal(err)
		}
		found[name] = info
	}
	return found
}

func mapID(t testing.TB, m *ebpf.Map) ebpf.MapID {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// checkConsistent checks that every attached program uses the maps that are
// pinned and that the agent uses, and that no trace of a migration is left.
func (r *rig) checkConsistent() {
	r.Helper()
	dir := pins(r.options.Pins)
	current := map[string]ebpf.MapID{}
	for name, m := range r.kernel.Maps() {
		current[name] = mapID(r, m)
		pinned, err := openMap(dir.path(mapsDir, name))
		if err != nil || pinned == nil {
			r.Errorf("map %s is not pinned: %v", name, err)
			continue
		}
		if id := mapID(r, pinned); id != current[name] {
			r.Errorf("map %d is pinned as %s, the agent uses %d", id, name, current[name])
		}
		pinned.Close()
	}
	hooks := r.pinnedLinks()
	for name, info := range hooks {
		for name2, id := range mapsOfProgram(r, info.Program) {
			if name2[0] != '.' && current[name2] != id {
				r.Errorf("%s uses map %s %d, the agent %d", name, name2, id, current[name2])
			}
		}
	}
	if want := 11 + 2*len(r.kernel.Attached()); len(hooks) != want && r.kernel.tc.mode == modeTCX {
		r.Errorf("%d hooks are pinned, want %d", len(hooks), want)
	}
	for _, d := range []string{stagedDir, switchDir} {
		if _, err := os.Stat(dir.path(d)); !errors.Is(err, os.ErrNotExist) {
			r.Errorf("%s is still there: %v", d, err)
		}
	}
}

func mapsOfProgram(t testing.TB, id ebpf.ProgramID) map[string]ebpf.MapID {
	t.Helper()
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]ebpf.MapID{}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		about, err := m.Info()
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
		found[about.Name] = id
	}
	return found
}

// TestAdoption: an agent restart changes neither maps nor links, replaces the
// programs in place, and no connection notices.
func TestAdoption(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	r.serve(0, r.echoes()...)
	r.attach("client", r.client)
	traffic := r.load()
	links, maps := r.pinnedLinks(), map[string]ebpf.MapID{}
	for name, m := range r.kernel.Maps() {
		maps[name] = mapID(t, m)
	}
	for range 10 {
		r.reopen()
		traffic.progress()
	}
	traffic.stop(t)
	r.checkConsistent()
	for name, m := range r.kernel.Maps() {
		if mapID(t, m) != maps[name] {
			t.Errorf("map %s was replaced", name)
		}
	}
	for name, after := range r.pinnedLinks() {
		before := links[name]
		if before == nil || after.ID != before.ID {
			t.Errorf("link %s was replaced", name)
		} else if after.Program == before.Program {
			t.Errorf("link %s still has the first program", name)
		}
	}
}

// affine checks that the client's connections go to one endpoint, and which.
func (r *rig) affine(want string) string {
	r.Helper()
	for range 10 {
		c := r.dial(r.client.NS, "tcp", vip(vip4).String())
		got := greeting(c)
		c.Close()
		if want == "" {
			want = got
		}
		if got != want {
			r.Fatalf("a connection went to %q, the earlier ones to %q", got, want)
		}
	}
	return want
}

// nextRelease makes the next Open one with other layouts and sizes, so that
// maps of every kind are migrated.
func (r *rig) nextRelease() {
	r.system.objects = bpftest.NextSpec
	r.options.Limits = map[string]uint32{
		bpf.MapStats: 5000, bpf.MapRefusals: 500, bpf.MapFlows: 3000, bpf.MapIfStats: 300, bpf.MapPods: 300,
	}
}

func (r *rig) thisRelease() {
	r.system.objects, r.options.Limits = bpf.Spec, nil
}

// TestUpgrade: a release with other layouts takes over, and the present one
// takes over again, with connections in flight; nothing is forgotten.
func TestUpgrade(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client, r.server)
	var endpoints []netip.AddrPort
	for i := range uint16(8) {
		endpoints = append(endpoints, r.echo(r.server.NS, fmt.Sprintf("pod%d", i), r.server.IPv4.String(), 8080+i).AddrPort)
	}
	r.serve(3600, endpoints...)
	r.attach("client", r.client)
	endpoint := r.affine("")
	c := r.dial(r.client.NS, "tcp", vip(vip4).String())
	wantGreeting(t, c, endpoint)
	udp := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_DGRAM, 0)
	hairpin := r.dial(r.server.NS, "tcp", vip(vip4).String())
	r.delete(bpf.MapClusters, uint64(clusterID+1))
	refused := r.socket(r.client.NS, unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err := nettest.Connect(refused, sockaddr(unix.AF_INET6, vip(vip6))); err != unix.ECONNREFUSED {
		t.Fatalf("connect without endpoints: %v", err)
	}

	opened := uint64(12)
	check := func() {
		t.Helper()
		r.checkConsistent()
		withFD(t, c, func(fd int) {
			wantPeer(t, fd, vip(vip4))
			wantOriginal(t, fd, vip(vip4))
		})
		withFD(t, hairpin, func(fd int) { wantPeer(t, fd, vip(vip4)) })
		if err := exchange(c, "old connection"); err != nil {
			t.Error(err)
		}
		if err := unix.Sendto(udp, []byte("x"), 0, sockaddr(unix.AF_INET, vip(vip4))); err != nil {
			t.Fatal(err)
		}
		wantDatagram(t, udp, endpoint+":x", vip(vip4))
		var total uint64
		for _, e := range endpoints {
			total += r.stats(e).Opened
		}
		if total != opened+1 {
			t.Errorf("%d connections are counted, want %d", total, opened+1)
		}
		if n := r.refusals(bpf.ReasonNoEndpoint); n != 1 {
			t.Errorf("%d refusals are counted, want 1", n)
		}
		if s := r.ifaceStat(r.node.Ifindex(t, "client")); s.RxPackets == 0 || s.TxPackets == 0 {
			t.Errorf("the interface's counters were lost: %+v", s)
		}
		r.affine(endpoint)
		opened += 10
	}
	check()
	r.nextRelease()
	r.reopen()
	check()
	r.thisRelease()
	r.reopen()
	check()
}

// TestUpgradeUnderLoad: again and again, with every connection counted.
func TestUpgradeUnderLoad(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	endpoints := r.echoes()
	r.serve(0, endpoints...)
	r.attach("client", r.client)
	traffic := r.load()
	for range 5 {
		r.nextRelease()
		r.reopen()
		traffic.progress()
		r.thisRelease()
		r.reopen()
		traffic.progress()
	}
	traffic.stop(t)
	r.checkConsistent()
	var opened uint64
	for _, e := range endpoints {
		opened += r.stats(e).Opened
	}
	if want := traffic.dialled.Load(); opened != want {
		t.Errorf("%d connections are counted, %d were made", opened, want)
	}
}

// TestCrash interrupts an upgrade before each of its steps, with traffic. The
// next Open, of either release, finishes what the crashed one began.
func TestCrash(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	endpoints := r.echoes()
	r.serve(0, endpoints...)
	r.attach("client", r.client)

	var steps []string
	r.nextRelease()
	r.system.step = func(name string) error {
		steps = append(steps, name)
		return nil
	}
	r.reopen()
	r.thisRelease()
	r.system.step = func(string) error { return nil }
	r.reopen()
	if !slices.Contains(steps, "publish hd_conns") || !slices.Contains(steps, "hook hd_connect4") {
		t.Fatalf("the steps are %q", steps)
	}

	traffic := r.load()
	for i, at := range steps {
		old := r.dial(r.client.NS, "tcp", vip(vip4).String())
		traffic.dialled.Add(1)
		crash := errors.New("crash")
		r.nextRelease()
		r.system.step = func(name string) error {
			if name == at {
				return crash
			}
			return nil
		}
		r.kernel.Close()
		if _, err := r.tryOpen(); !errors.Is(err, crash) {
			t.Fatalf("at %s: open: %v", at, err)
		}
		r.system.step = func(string) error { return nil }
		traffic.progress()
		if i%2 == 0 {
			r.thisRelease() // rolled back
		}
		r.open()
		traffic.progress()
		r.checkConsistent()
		withFD(t, old, func(fd int) { wantPeer(t, fd, vip(vip4)) })
		old.Close()
		if i%2 == 1 {
			r.thisRelease()
			r.reopen()
		}
		if t.Failed() || traffic.failed() {
			t.Fatalf("after a crash before %q", at)
		}
	}
	traffic.stop(t)
	var opened uint64
	for _, e := range endpoints {
		opened += r.stats(e).Opened
	}
	if want := traffic.dialled.Load(); opened != want {
		t.Errorf("%d connections are counted, %d were made", opened, want)
	}
}

// TestLostPin: whatever pin is removed, the next Open repairs it, and what was
// programmed is still there.
func TestLostPin(t *testing.T) {
	inBothModes(t, testLostPin)
}

func testLostPin(t *testing.T, r *rig) {
	r.enrol(r.client)
	r.serve(0, r.echoes()...)
	r.attach("client", r.client)
	dir := pins(r.options.Pins)
	for _, d := range []string{mapsDir, linksDir} {
		names, err := dir.names(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			old := r.dial(r.client.NS, "tcp", vip(vip4).String())
			r.kernel.Close()
			if err := os.Remove(dir.path(d, name)); err != nil {
				t.Fatal(err)
			}
			r.open()
			if isInterfacePin(name) {
				r.attach("client", r.client)
			}
			r.checkConsistent()
			c := r.dial(r.client.NS, "tcp", vip(vip4).String())
			wantGreeting(t, c, "pod")
			withFD(t, old, func(fd int) { wantPeer(t, fd, vip(vip4)) })
			if t.Failed() {
				t.Fatalf("after the loss of %s/%s", d, name)
			}
		}
	}
}

// TestLimits: sizes follow the options, but never below what is in use.
func TestLimits(t *testing.T) {
	r := newRig(t)
	r.open()
	for i := range uint64(20) {
		r.put(bpf.MapPods, 1000+i, bpf.PodVal{Scope: i})
		r.put(bpf.MapIfStats, uint32(1000+i), []bpf.IfaceStat{{RxPackets: i}})
	}
	size := func(limit uint32) uint32 {
		t.Helper()
		r.options.Limits = map[string]uint32{bpf.MapPods: limit, bpf.MapIfStats: limit}
		r.reopen()
		r.checkConsistent()
		for i := range uint64(20) {
			var val bpf.PodVal
			if err := r.kernel.Maps()[bpf.MapPods].Lookup(1000+i, &val); err != nil || val.Scope != i {
				t.Errorf("pod %d at limit %d: %+v, %v", i, limit, val, err)
			}
			if s := r.ifaceStat(uint32(1000 + i)); s.RxPackets != i {
				t.Errorf("interface %d at limit %d: %+v", i, limit, s)
			}
		}
		return r.kernel.Maps()[bpf.MapPods].MaxEntries()
	}
	for _, step := range []struct{ limit, want uint32 }{{100, 100}, {30, 30}, {10, 30}, {20, 20}, {50, 50}} {
		if got := size(step.limit); got != step.want {
			t.Errorf("limit %d: the map has %d entries, want %d", step.limit, got, step.want)
		}
	}
}

// TestOtherCgroup: hooks move to the cgroup of the options; a hook whose cgroup
// was removed is attached again.
func TestOtherCgroup(t *testing.T) {
	r := newRig(t)
	sub := r.options.Cgroup + "/sub"
	parent := r.options.Cgroup
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	r.options.Cgroup = sub
	r.open()
	r.echoes()
	r.enrol(r.client)
	r.serve(0, netip.AddrPortFrom(r.server.IPv4, 8080))
	reach := func(want string) {
		t.Helper()
		c := r.dial(r.client.NS, "tcp", vip(vip4).String())
		wantGreeting(t, c, want)
		c.Close()
	}
	reach("plain") // the test process is in the parent
	r.options.Cgroup = parent
	r.reopen()
	reach("pod")
	r.options.Cgroup = sub
	r.reopen()
	reach("plain")
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	r.options.Cgroup = parent
	r.reopen()
	reach("pod")
	r.checkConsistent()
}

// TestNewerReleaseLeavesThings: pins that this version does not know go away.
func TestNewerReleaseLeavesThings(t *testing.T) {
	r := newRig(t)
	k := r.open()
	dir := pins(r.options.Pins)
	if err := k.Maps()[bpf.MapOwn].Pin(dir.path(mapsDir, "hd_later")); err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: r.options.Cgroup, Attach: ebpf.AttachCgroupInetSockRelease, Program: r.programOf("hd_release"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Pin(dir.path(linksDir, "hd_later")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	r.reopen()
	r.checkConsistent()
	for _, d := range []string{mapsDir, linksDir} {
		if _, err := os.Stat(dir.path(d, "hd_later")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s/hd_later is still there: %v", d, err)
		}
	}
}

func (r *rig) programOf(hook string) *ebpf.Program {
	r.Helper()
	p, err := ebpf.NewProgramFromID(r.pinnedLinks()[hook].Program)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { p.Close() })
	return p
}

// TestRemove: nothing stays, connections go on, and Remove can be repeated.
func TestRemove(t *testing.T) {
	for _, mode := range []string{modeTCX, modeClsact} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			r.options.TC = mode
			k := r.open()
			r.enrol(r.client)
			r.serve(0, r.echoes()...)
			r.attach("client", r.client)
			c := r.dial(r.client.NS, "tcp", vip(vip4).String())
			wantGreeting(t, c, "pod")
			if err := Remove(r.options); !errors.Is(err, ErrLocked) {
				t.Errorf("remove under a running agent: %v", err)
			}
			k.Close()
			r.node.Do(t, func() {
				for range 2 {
					if err := Remove(r.options); err != nil {
						t.Errorf("remove: %v", err)
					}
				}
				filtered, err := filteredInterfaces()
				if err != nil || len(filtered) != 0 {
					t.Errorf("filters are left: %v, %v", filtered, err)
				}
			})
			if _, err := os.Stat(r.options.Pins); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the pins are still there: %v", err)
			}
			if err := exchange(c, "still connected"); err != nil {
				t.Error(err)
			}
			wantGreeting(t, r.dial(r.client.NS, "tcp", vip(vip4).String()), "plain")
			r.open()
		})
	}
}

// attach puts the floor on a pod's interface and programs it.
func (r *rig) attach(host string, pod *nettest.Pod) uint32 {
	r.Helper()
	ifindex := r.attachOnly(host)
	r.program(ifindex, pod)
	return ifindex
}

func (r *rig) attachOnly(host string) (ifindex uint32) {
	r.Helper()
	r.node.Do(r, func() {
		var err error
		var mode string
		if ifindex, mode, err = r.kernel.AttachIface(host); err != nil {
			r.Fatal(err)
		}
		if want := r.options.TC; want != "" && mode != want {
			r.Fatalf("attached by %s, want %s", mode, want)
		}
	})
	return ifindex
}

func (r *rig) program(ifindex uint32, pod *nettest.Pod) {
	r.Helper()
	val := bpf.IfaceVal{Netns: pod.Cookie(), AddrCount: 2}
	val.Addr[0], val.Addr[1] = bpf.AddrFrom(pod.IPv4), bpf.AddrFrom(pod.IPv6)
	r.put(bpf.MapIfaces, ifindex, val)
}

// ifaceStat returns an interface's counters.
func (r *rig) ifaceStat(ifindex uint32) (total bpf.IfaceStat) {
	r.Helper()
	var perCPU []bpf.IfaceStat
	err := r.kernel.Maps()[bpf.MapIfStats].Lookup(ifindex, &perCPU)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		r.Fatal(err)
	}
	for _, s := range perCPU {
		total.RxPackets += s.RxPackets
		total.RxBytes += s.RxBytes
		total.TxPackets += s.TxPackets
		total.TxBytes += s.TxBytes
		total.Dropped += s.Dropped
	}
	return total
}
