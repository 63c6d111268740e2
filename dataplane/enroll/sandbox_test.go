package enroll

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/state"
)

// The end of a pod's old sandbox, told late, does not end the new one.
func TestForgetMeansOnePod(t *testing.T) {
	for name, test := range map[string]struct {
		gone Pod
		want bool
	}{
		"by name":                 {Pod{}, true},
		"by uid":                  {Pod{UID: "new"}, true},
		"another uid":             {Pod{UID: "old"}, false},
		"by netns":                {Pod{Netns: "/run/netns/a"}, true},
		"another netns":           {Pod{Netns: "/run/netns/b"}, false},
		"another netns, same uid": {Pod{UID: "new", Netns: "/run/netns/b"}, false},
		"another that is gone":    {Pod{UID: "new", Netns: "/run/netns/gone"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, t.TempDir(), newMachine())
			p := announced("a")
			p.UID = "new"
			mustAnnounce(t, r, p)
			test.gone.Namespace, test.gone.Name = "shop", "a"
			if got, err := r.Forget(test.gone); got != test.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	m := newMachine()
	r := open(t, t.TempDir(), m)
	mustAnnounce(t, r, announced("a"))
	delete(m.cookies, "/run/netns/a")
	if ok, err := r.Forget(Pod{Namespace: "shop", Name: "a", Netns: "/var/run/netns/a"}); !ok || err != nil {
		t.Errorf("its own namespace, by another path and gone: %v, %v", ok, err)
	}
}

// A second announcement of one sandbox adds what it knows and takes nothing.
func TestAnnouncementsOfOneSandboxAddUp(t *testing.T) {
	r := open(t, t.TempDir(), newMachine())
	p := announced("a")
	p.UID, p.Addresses = "u", addrs("10.0.0.1")
	first := mustAnnounce(t, r, p)
	again := mustAnnounce(t, r, announced("a"))
	if again.UID != "u" || !slices.Equal(again.Addresses, p.Addresses) || !again.Announced.Equal(first.Announced) {
		t.Errorf("became %+v", again)
	}
	p.Netns, p.Interface, p.UID = "/run/netns/b", "veth-b", "v"
	if other := mustAnnounce(t, r, p); other.Cookie != 20 || other.UID != "v" {
		t.Errorf("another sandbox became %+v", other)
	}
}

func TestJoinTellsPodsOfOneNameApart(t *testing.T) {
	for name, test := range map[string]struct {
		pod, control      string // uids
		plugin, addresses []netip.Addr
		want              Standing
		reason, may       string
	}{
		"same":                      {"u", "u", nil, addrs("10.0.0.1"), Enrolled, "", "10.0.0.1"},
		"another":                   {"u", "v", nil, addrs("10.0.0.1"), Unknown, "another pod of this name", ""},
		"runtime does not tell":     {"", "u", nil, addrs("10.0.0.1"), Enrolled, "", "10.0.0.1"},
		"plugin knows first":        {"u", "u", addrs("10.0.0.1"), nil, Enrolled, "", "10.0.0.1"},
		"address of an old sandbox": {"u", "u", addrs("10.0.0.2"), addrs("10.0.0.1"), Enrolled, "", "10.0.0.2"},
		"control plane knows more":  {"u", "u", addrs("10.0.0.1"), addrs("10.0.0.1", "fd00::1"), Enrolled, "", "10.0.0.1 fd00::1"},
		"nobody knows an address":   {"u", "u", nil, nil, Waiting, "no address", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := announced("a")
			p.UID, p.Addresses = test.pod, test.plugin
			m := Join([]Pod{p}, &state.Snapshot{Workloads: map[string]state.Workload{
				"shop/a": {Namespace: "shop", Name: "a", UID: test.control, Addresses: test.addresses, Mesh: true},
			}})[0]
			var may []string
			for _, a := range m.Addresses {
				may = append(may, a.String())
			}
			if m.Standing != test.want || !strings.Contains(m.Reason, test.reason) || strings.Join(may, " ") != test.may {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
