package attach

import (
	"io"
	"net"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/bpf/bpftest"
)

// Switching off, restarts of the agent and the loss of it leave connections
// alone; new ones are not bypassed any more.
func TestBypassSwitchedOff(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	var pairs [][2]*net.TCPConn
	for range 100 {
		client, server := r.pair(r.client.NS, l, r.server.IPv4)
		r.mustTalk(client, server)
		pairs = append(pairs, [2]*net.TCPConn{client, server})
	}
	unread := pairs[0]
	if _, err := io.WriteString(unread[0], "not read yet"); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, p := range pairs[1:] {
			if err := talk(p[0], p[1]); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if n := r.overTCP(p[0]); n > 0 {
				t.Fatalf("%s: %d bytes went over TCP", when, n)
			}
		}
	}
	r.reopen()
	check("after a restart")
	r.leave(r.client, r.server)
	r.setBypass(false)
	check("switched off")
	if on, err := r.kernel.bypass.attached(); err != nil || !on {
		t.Errorf("what guards bypassed sockets is gone before them: %v, error %v", on, err)
	}
	r.reopen()
	r.setBypass(false)
	check("switched off, after a restart")
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if r.overTCP(client) == 0 {
		t.Error("a new connection was bypassed")
	}
	wantGreeting(t, unread[1], "not read yet")
	for _, p := range pairs {
		p[0].Close()
		p[1].Close()
	}
	r.wantEmpty()
	r.setBypass(false)
	if on, err := r.kernel.bypass.attached(); err != nil || on {
		t.Errorf("programs are still attached: %v, error %v", on, err)
	}
}

// An upgrade to other layouts, and back, takes over the sockets as they are. New
// connections are bypassed by the new programs.
func TestBypassSurvivesUpgrade(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	var pairs [][2]*net.TCPConn
	for _, objects := range []func() (*ebpf.CollectionSpec, error){bpf.Spec, bpftest.NextSpec, bpf.Spec} {
		r.system.objects = objects
		r.reopen()
		client, server := r.pair(r.client.NS, l, r.server.IPv4)
		pairs = append(pairs, [2]*net.TCPConn{client, server})
		for i, p := range pairs {
			r.mustTalk(p[0], p[1])
			if a, b := r.overTCP(p[0]), r.overTCP(p[1]); a+b > 0 {
				t.Errorf("connection %d of %d: %d and %d bytes went over TCP", i+1, len(pairs), a, b)
			}
		}
	}
	r.wantReasons(bpf.ReasonBypassed, 3)
	for _, p := range pairs {
		p[0].Close()
		p[1].Close()
	}
	r.wantEmpty()
}

// Taking Heddle out of the kernel leaves bypassed connections alone too: the
// sockets hold what they need.
func TestBypassSurvivesRemove(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if _, err := io.WriteString(client, "not read yet"); err != nil {
		t.Fatal(err)
	}
	if err := r.kernel.Close(); err != nil {
		t.Fatal(err)
	}
	r.node.Do(t, func() {
		if err := Remove(r.options); err != nil {
			t.Fatal(err)
		}
	})
	wantGreeting(t, server, "not read yet")
	r.mustTalk(client, server)
}

// A kernel without the bypass runs everything else.
func TestWithoutBypass(t *testing.T) {
	r := newRig(t)
	r.system.bypass = func(*ebpf.CollectionSpec) Feature { return Feature{SocketBypass, false, "as in a test"} }
	r.open()
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if n := r.bypassed(); n != 0 {
		t.Errorf("%d sockets in %s", n, bpf.MapSocks)
	}
	names, err := r.kernel.bypass.pins.names(linksDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if isBypass(name) {
			t.Errorf("%s is attached", name)
		}
	}
}
