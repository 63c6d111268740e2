package node

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/attach"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/nettest"
)

// word tells the control plane that the pod is in the mesh, and whether it asks
// for the socket bypass.
func (p *pod) word(bypass bool) {
	w := feedtest.Workload(p.name, true)
	w.Addresses, w.SocketBypass = [][]byte{p.address.AsSlice()}, bypass
	p.rig.server.Set(xds.WorkloadType, "shop/"+p.name, w)
}

// talk opens a connection between two pods and returns what sends a word there
// and back on it.
func (r *rig) talk(from, to *pod) (exchange func() error, hangUp func()) {
	r.t.Helper()
	var l net.Listener
	var a, b net.Conn
	to.Do(r.t, func() {
		var err error
		if l, err = net.Listen("tcp", netip.AddrPortFrom(to.address, 0).String()); err != nil {
			r.t.Fatal(err)
		}
	})
	defer l.Close()
	from.Do(r.t, func() {
		var err error
		if a, err = net.DialTimeout("tcp", l.Addr().String(), 3*time.Second); err != nil {
			r.t.Fatal(err)
		}
	})
	b, err := l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	hangUp = func() { a.Close(); b.Close() }
	r.t.Cleanup(hangUp)
	return func() error {
		for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
			_ = way[1].SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(way[0], "word"); err != nil {
				return err
			}
			if _, err := io.ReadFull(way[1], make([]byte, 4)); err != nil {
				return err
			}
		}
		return nil
	}, hangUp
}

func (r *rig) mechanism() api.Mechanism {
	r.t.Helper()
	for _, m := range get[api.AgentStatus](r, "/v1/status").Mechanisms {
		if m.Name == attach.SocketBypass {
			return m
		}
	}
	r.t.Fatal("the status has no " + attach.SocketBypass)
	return api.Mechanism{}
}

// eventuallyBypass waits until every pod says this of the socket bypass.
func (r *rig) eventuallyBypass(want string) {
	r.t.Helper()
	r.eventually("bypass is "+want, func() bool {
		for _, p := range get[[]api.Pod](r, "/v1/pods") {
			if !strings.HasPrefix(p.Bypass, want) {
				return false
			}
		}
		return true
	})
}

// Two pods ask, talk, and their agent is killed and comes back, first as it was
// and then with the bypass switched off: what is open goes on.
func TestSocketBypass(t *testing.T) {
	r := newRig(t)
	nettest.Join(t, r.config.Cgroup)
	client, server := r.pod("client", "10.0.0.1", true), r.pod("server", "10.0.0.2", true)
	kill := r.spawn()
	if m := r.mechanism(); !m.On {
		t.Fatal(m.Reason)
	}
	client.announce()
	server.announce()
	r.eventuallyBypass("off: not asked for")
	client.word(true)
	server.word(true)
	r.eventuallyBypass("on")
	exchange, hangUp := r.talk(client, server)
	check := func(when string, want api.Mechanism) {
		t.Helper()
		if err := exchange(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		m := r.mechanism()
		if m.Reason = ""; !reflect.DeepEqual(m, want) {
			t.Errorf("%s: %+v, want %+v", when, m, want)
		}
	}
	check("enabled", api.Mechanism{Name: attach.SocketBypass, On: true, Now: 1, Total: 1})
	kill()
	if err := exchange(); err != nil {
		t.Fatalf("without an agent: %v", err)
	}
	kill = r.spawn()
	r.eventuallyBypass("on")
	check("restarted", api.Mechanism{Name: attach.SocketBypass, On: true, Now: 1, Total: 1})
	kill()
	r.config.SocketBypass = "off"
	r.spawn()
	r.eventuallyBypass("off: the agent runs with --socket-bypass=off")
	check("switched off", api.Mechanism{Name: attach.SocketBypass, Now: 1, Total: 1})
	another, _ := r.talk(client, server)
	if err := another(); err != nil {
		t.Fatal(err)
	}
	check("with a new connection", api.Mechanism{Name: attach.SocketBypass, Now: 1, Total: 1})
	hangUp()
	r.eventually("no connection is left", func() bool { return r.mechanism().Now == 0 })
}

// links lists the pinned links.
func (r *rig) links() []string {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.config.Pins, "links"))
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The programs of the bypass are in force while a pod asks, and not longer.
func TestSocketBypassIsAttachedOnDemand(t *testing.T) {
	r := newRig(t)
	client := r.pod("client", "10.0.0.1", true)
	n := r.still()
	if why := n.noBypass(); why != "" {
		t.Fatal(why)
	}
	_, err := n.pods.Announce(enroll.Pod{Namespace: "shop", Name: client.name, Netns: client.Path(), Interface: client.host})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		word     string
		attached bool
	}{{"", false}, {" bypass", true}, {"", false}, {" bypass", true}} {
		if wait := r.step(n, "node node1\nworkload shop/client 10.0.0.1 mesh"+test.word+"\n"); wait != 0 {
			t.Fatalf("to be tried again in %v: %v", wait, n.loop.broken)
		}
		n.loop.check()
		agrees(t, n)
		for _, name := range []string{bpf.ProgRecv, bpf.ProgSetsockopt} {
			if got := slices.Contains(r.links(), name); got != test.attached {
				t.Errorf("the pod's word is %q, and %s attached: %v", test.word, name, got)
			}
		}
	}
}
