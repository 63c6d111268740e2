package enroll

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/dataplane/state"
)

// machine is a host with the given namespaces and interfaces; the agent's own
// namespace has cookie 1.
type machine struct {
	cookies map[string]uint64
	links   map[string]uint32
}

func (m *machine) OwnCookie() (uint64, error) { return 1, nil }

func (m *machine) Cookie(path string) (uint64, error) {
	if c, ok := m.cookies[path]; ok {
		return c, nil
	}
	return 0, fmt.Errorf("no namespace %s", path)
}

func (m *machine) Ifindex(name string) (uint32, error) {
	if i, ok := m.links[name]; ok {
		return i, nil
	}
	return 0, fmt.Errorf("no interface %s", name)
}

func (m *machine) Interface(ifindex uint32) (string, error) {
	for name, i := range m.links {
		if i == ifindex {
			return name, nil
		}
	}
	return "", fmt.Errorf("no interface %d", ifindex)
}

// newMachine has pods a and b.
func newMachine() *machine {
	return &machine{
		cookies: map[string]uint64{"/run/netns/a": 10, "/run/netns/b": 20, "/proc/1/ns/net": 1},
		links:   map[string]uint32{"veth-a": 100, "veth-b": 200},
	}
}

func open(t *testing.T, dir string, m *machine) *Registry {
	t.Helper()
	r, lost, err := Open(options(dir, m))
	if err != nil || lost != nil && !errors.Is(lost, fs.ErrNotExist) {
		t.Fatalf("open: %v, lost %v", err, lost)
	}
	return r
}

func options(dir string, m *machine) Options {
	return Options{File: filepath.Join(dir, "pods"), MaxPods: 2, Host: m, Log: slog.New(slog.DiscardHandler)}
}

func announced(name string) Pod {
	return Pod{Namespace: "shop", Name: name, Netns: "/run/netns/" + name, Interface: "veth-" + name}
}

func mustAnnounce(t *testing.T, r *Registry, p Pod) Pod {
	t.Helper()
	p, err := r.Announce(p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keys(pods []Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Key())
	}
	slices.Sort(out)
	return out
}

func TestAnnounceSurvivesRestart(t *testing.T) {
	dir, m := t.TempDir(), newMachine()
	r := open(t, dir, m)
	a := mustAnnounce(t, r, announced("a"))
	if a.Cookie != 10 || a.Ifindex != 100 {
		t.Errorf("announced %+v", a)
	}
	mustAnnounce(t, r, announced("b"))
	<-r.Changed()
	if again := mustAnnounce(t, r, announced("a")); !reflect.DeepEqual(again, a) {
		t.Errorf("announcing again made %+v", again)
	}
	select {
	case <-r.Changed():
		t.Error("announcing again is a change")
	default:
	}
	if got := keys(open(t, dir, m).Pods()); !slices.Equal(got, []string{"shop/a", "shop/b"}) {
		t.Errorf("after the restart: %v", got)
	}
	if ok, err := r.Forget(Pod{Namespace: "shop", Name: "a"}); !ok || err != nil {
		t.Errorf("forget: %v, %v", ok, err)
	}
	if ok, _ := r.Forget(Pod{Namespace: "shop", Name: "a"}); ok {
		t.Error("forgot a pod twice")
	}
	if got := keys(open(t, dir, m).Pods()); !slices.Equal(got, []string{"shop/b"}) {
		t.Errorf("after the removal: %v", got)
	}
}

func TestRestartDropsWhatChanged(t *testing.T) {
	for name, change := range map[string]func(*machine){
		"namespace replaced": func(m *machine) { m.cookies["/run/netns/a"] = 11 },
		"namespace gone":     func(m *machine) { delete(m.cookies, "/run/netns/a") },
		"interface replaced": func(m *machine) { m.links["veth-a"] = 101 },
		"interface gone":     func(m *machine) { delete(m.links, "veth-a") },
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), newMachine()
			r := open(t, dir, m)
			mustAnnounce(t, r, announced("a"))
			mustAnnounce(t, r, announced("b"))
			change(m)
			if got := keys(open(t, dir, m).Pods()); !slices.Equal(got, []string{"shop/b"}) {
				t.Errorf("kept %v", got)
			}
		})
	}
}

// What the kernel's tables hold is of this boot, so the interface is proof enough.
func TestRestartKeepsWhatIsProgrammed(t *testing.T) {
	dir, m := t.TempDir(), newMachine()
	r := open(t, dir, m)
	mustAnnounce(t, r, announced("a"))
	mustAnnounce(t, r, announced("b"))
	clear(m.cookies)
	o := options(dir, m)
	o.Programmed = map[uint32]uint64{100: 10, 200: 21}
	r, lost, err := Open(o)
	if err != nil || lost != nil {
		t.Fatal(err, lost)
	}
	if got := keys(r.Pods()); !slices.Equal(got, []string{"shop/a"}) {
		t.Errorf("kept %v", got)
	}
}

// A runtime that crashed announces no removal; a running pod may have lost the
// path of its namespace, but not its interface.
func TestSweepDropsPodsWithoutInterface(t *testing.T) {
	dir, m := t.TempDir(), newMachine()
	r := open(t, dir, m)
	mustAnnounce(t, r, announced("a"))
	mustAnnounce(t, r, announced("b"))
	delete(m.cookies, "/run/netns/b")
	delete(m.links, "veth-a")
	r.Sweep()
	if got := keys(r.Pods()); !slices.Equal(got, []string{"shop/b"}) {
		t.Errorf("kept %v", got)
	}
}

func TestAnnounceRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Pod)
		want   string
	}{
		"no namespace":     {func(p *Pod) { p.Namespace = "" }, "namespace must have"},
		"long name":        {func(p *Pod) { p.Name = strings.Repeat("a", 254) }, "1 to 253"},
		"path in a name":   {func(p *Pod) { p.Name = "a/../b" }, "are allowed"},
		"relative netns":   {func(p *Pod) { p.Netns = "run/netns/b" }, "clean absolute path"},
		"netns with dots":  {func(p *Pod) { p.Netns = "/run/netns/../netns/b" }, "clean absolute path"},
		"no netns":         {func(p *Pod) { p.Netns = "" }, "netns is empty"},
		"netns missing":    {func(p *Pod) { p.Netns = "/run/netns/c" }, "no namespace"},
		"host network":     {func(p *Pod) { p.Netns = "/proc/1/ns/net" }, "hostNetwork"},
		"netns taken":      {func(p *Pod) { p.Netns = "/run/netns/a" }, "belongs to pod shop/a"},
		"no interface":     {func(p *Pod) { p.Interface = "" }, "1 to 15"},
		"interface length": {func(p *Pod) { p.Interface = "abcdefghijklmnop" }, "1 to 15"},
		"interface slash":  {func(p *Pod) { p.Interface = "../eth0" }, "no name"},
		"loopback":         {func(p *Pod) { p.Interface = "lo" }, "no name"},
		"interface gone":   {func(p *Pod) { p.Interface = "veth-c" }, "no interface"},
		"interface taken":  {func(p *Pod) { p.Interface = "veth-a" }, "belongs to pod shop/a"},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, t.TempDir(), newMachine())
			mustAnnounce(t, r, announced("a"))
			p := announced("b")
			test.change(&p)
			_, err := r.Announce(p)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestAnnounceIsBounded(t *testing.T) {
	m := newMachine()
	m.cookies["/run/netns/c"], m.links["veth-c"] = 30, 300
	r := open(t, t.TempDir(), m)
	mustAnnounce(t, r, announced("a"))
	mustAnnounce(t, r, announced("b"))
	if _, err := r.Announce(announced("c")); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

func TestUnusableFileIsReportedAndPodsAreFoundAgain(t *testing.T) {
	for name, contents := range map[string]string{
		"cut":     `{"version":1,"pods":[`,
		"version": `{"version":2}`,
		"bad pod": `{"version":1,"pods":[{"namespace":"../etc","name":"x"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir(), newMachine())
			if err := os.WriteFile(o.File, []byte(contents), 0o600); err != nil {
				t.Fatal(err)
			}
			r, lost, err := Open(o)
			if err != nil || lost == nil {
				t.Fatalf("open: %v, lost %v", err, lost)
			}
			address := netip.MustParseAddr("10.0.0.1")
			r.Adopt([]Orphan{
				{Cookie: 10, Ifindex: 100, Addresses: []netip.Addr{address}},
				{Cookie: 20, Ifindex: 200, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}, // of no workload
				{Cookie: 30, Ifindex: 300, Addresses: []netip.Addr{address}},                         // interface is gone
			})
			r.Resolve(&state.Snapshot{Workloads: map[string]state.Workload{"shop/a": {Namespace: "shop", Name: "a", Addresses: []netip.Addr{address}, Mesh: true}}})
			pods := r.Pods()
			if len(pods) != 1 || pods[0].Key() != "shop/a" || pods[0].Cookie != 10 || pods[0].Interface != "veth-a" {
				t.Fatalf("found %+v", pods)
			}
			// It stays found without another look at the kernel, and its
			// runtime may announce it again.
			again := open(t, filepath.Dir(o.File), newMachine())
			if got := keys(again.Pods()); !slices.Equal(got, []string{"shop/a"}) {
				t.Errorf("after the restart: %v", got)
			}
			if p := mustAnnounce(t, again, announced("a")); p.Netns != "/run/netns/a" {
				t.Errorf("announced again: %+v", p)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	r := open(t, t.TempDir(), newMachine())
	a, b := mustAnnounce(t, r, announced("a")), mustAnnounce(t, r, announced("b"))
	address := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	other := []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	w := func(name string, mesh, host bool, addresses []netip.Addr) state.Workload {
		return state.Workload{Namespace: "shop", Name: name, Mesh: mesh, HostNetwork: host, Addresses: addresses, SocketBypass: name == "b"}
	}
	for name, test := range map[string]struct {
		a, b           state.Workload
		wantA, wantB   Standing
		reason         string // part of b's
		plans, reports int
	}{
		"both":           {w("a", true, false, address), w("b", true, false, other), Enrolled, Enrolled, "", 2, 0},
		"label":          {w("a", true, false, address), w("b", false, false, other), Enrolled, Outside, "labelled", 1, 0},
		"host network":   {w("a", true, false, address), w("b", true, true, other), Enrolled, Outside, "node's network", 1, 0},
		"no address":     {w("a", true, false, address), w("b", true, false, nil), Enrolled, Waiting, "no address", 1, 1},
		"same address":   {w("a", true, false, address), w("b", true, false, address), Enrolled, Waiting, "10.0.0.1 belongs to pod shop/a", 1, 1},
		"same, a leaves": {w("a", false, false, address), w("b", true, false, address), Outside, Enrolled, "", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &state.Snapshot{Workloads: map[string]state.Workload{"shop/a": test.a, "shop/b": test.b}}
			m := Join([]Pod{b, a}, s)
			if m[0].Standing != test.wantA || m[1].Standing != test.wantB || !strings.Contains(m[1].Reason, test.reason) {
				t.Errorf("joined %+v", m)
			}
			if n := len(Plan(m)); n != test.plans {
				t.Errorf("%d pods planned, want %d", n, test.plans)
			}
			for _, p := range Plan(m) {
				if p.Bypass != (p.Name == "b") {
					t.Errorf("planned %+v; b asks for the bypass", p)
				}
			}
			if n := len(Problems(m)); n != test.reports {
				t.Errorf("%d problems, want %d", n, test.reports)
			}
		})
	}
	for _, s := range []*state.Snapshot{nil, {}} {
		if m := Join([]Pod{a}, s); m[0].Standing != Unknown || m[0].Mesh() {
			t.Errorf("joined with nothing: %+v", m)
		}
	}
}

func TestMachine(t *testing.T) {
	var m Machine
	i, err := m.Ifindex("lo")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := m.Interface(i); err != nil || name != "lo" {
		t.Errorf("interface %d is %q, %v", i, name, err)
	}
	if _, err := m.Ifindex("no-such-link"); err == nil {
		t.Error("found an interface that does not exist")
	}
	nettest.RequireRoot(t)
	own, err := m.OwnCookie()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := m.Cookie(nettest.Netns(t).Path()); err != nil || c == own || c == 0 {
		t.Errorf("cookie %d, %v; own is %d", c, err, own)
	}
}
