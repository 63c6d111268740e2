package attach

import (
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

func TestFastPathIsLeft(t *testing.T) {
	leave := map[string]func(f *fastRig){
		"client detached": func(f *fastRig) { f.detach(f.clientIf) },
		"server detached": func(f *fastRig) { f.detach(f.serverIf) },
		"one interface":   func(f *fastRig) { f.leave(f.clientIf) },
		"switched off": func(f *fastRig) {
			f.options.FastPath = FastPathOff
			f.reopen()
		},
		"self-test fails": func(f *fastRig) {
			f.options.SelfTest = func(*Trial) (string, error) { return "a row differs", nil }
			f.reopen()
			if f.kernel.HasFastPath() {
				f.Error("the fast path is on")
			}
		},
	}
	for name, change := range leave {
		t.Run(name, func(t *testing.T) {
			inBothModesFast(t, func(t *testing.T, f *fastRig) {
				open := f.hold(20)
				change(f)
				if f.now() != 0 {
					t.Errorf("%d connections are still on the fast path", f.now())
				}
				for _, c := range open {
					if err := exchange(c, "still here"); err != nil {
						t.Fatalf("after the change: %v", err)
					}
					c.Close()
				}
				f.settled()
			})
		})
	}
}

// A connection that is made while its interface is being let go stays on the
// stack, also while half of the programs is still there.
func TestFastPathIsBarredWhileDetaching(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		f.hold(2)
		before := f.now()
		if err := f.kernel.barFastPath(f.clientIf); err != nil {
			t.Fatal(err)
		}
		c := f.dial(f.client.NS, "tcp", f.servers[0].String())
		wantGreeting(t, c, "pod")
		if now := f.now(); now != before {
			t.Errorf("%d connections on the fast path, want the %d of before", now, before)
		}
		f.detach(f.clientIf)
		if err := exchange(c, "still here"); err != nil {
			t.Error(err)
		}
	})
}

func TestFastPathSurvivesRestart(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		c := f.connect(f.servers[0])
		f.reopen()
		if err := exchange(c, "still here"); err != nil {
			t.Fatal(err)
		}
		if f.now() != 1 {
			t.Errorf("%d connections on the fast path, want 1", f.now())
		}
		c.Close()
		f.settled()
	})
}

func TestFastPathIsSweptAtStart(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		f.connect(f.servers[0])
		if err := f.kernel.Close(); err != nil {
			t.Fatal(err)
		}
		f.node.Unlink(t, "server")
		f.open()
		if f.now() != 0 || f.use(f.clientIf) != 0 {
			t.Errorf("%d connections on the fast path, share of %d; want none", f.now(), f.use(f.clientIf))
		}
	})
}

func TestFastPathForgetsStale(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		fd := f.socket(f.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
		if err := unix.Bind(fd, sockaddr(unix.AF_INET, netip.AddrPortFrom(f.client.IPv4, 0))); err != nil {
			t.Fatal(err)
		}
		local, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		from, to := addrPort(t, local), f.servers[0].AddrPort
		stale := bpf.FastKey{
			Addr:   [2]bpf.Addr{bpf.AddrFrom(from.Addr()), bpf.AddrFrom(to.Addr())},
			PortBe: [2]uint16{bpf.PortBE(from.Port()), bpf.PortBE(to.Port())},
		}
		if stale.PortBe[0] > stale.PortBe[1] {
			stale.Addr[0], stale.Addr[1] = stale.Addr[1], stale.Addr[0]
			stale.PortBe[0], stale.PortBe[1] = stale.PortBe[1], stale.PortBe[0]
		}
		const gone = 4711 // an interface
		f.put(bpf.MapFast, stale, bpf.FastVal{End: [2]bpf.FastEnd{{Ifindex: gone}, {Ifindex: gone}}})
		if err := nettest.Connect(fd, sockaddr(unix.AF_INET, to)); err != nil {
			t.Fatal(err)
		}
		wantGreeting(t, fdConn(fd), "pod")
		found, err := f.kernel.flows.list(everyFlow)
		if err != nil || len(found) != 1 || found[0].client != from {
			t.Errorf("the fast path has %v (%v), want the new connection", found, err)
		}
	})
}

// Taking Heddle out of the kernel leaves connections alone.
func TestFastPathIsRemoved(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		open := f.hold(10)
		if err := f.kernel.Close(); err != nil {
			t.Fatal(err)
		}
		f.node.Do(t, func() {
			if err := Remove(f.options); err != nil {
				t.Error(err)
			}
		})
		for _, c := range open {
			if err := exchange(c, "still here"); err != nil {
				t.Fatalf("after the removal: %v", err)
			}
		}
	})
}

// hold opens connections and moves more than conntrack's window on each.
func (f *fastRig) hold(each int) (open []*net.TCPConn) {
	f.Helper()
	for _, e := range f.servers {
		for range each {
			c := f.connect(e)
			for range 20 {
				if err := exchange(c, strings.Repeat("x", 64<<10)); err != nil {
					f.Fatal(err)
				}
			}
			open = append(open, c)
		}
	}
	if f.now() != len(open) {
		f.Fatalf("%d connections on the fast path, want %d", f.now(), len(open))
	}
	return open
}

// Whatever the addresses are, a connection can be taken off: here the bytes of
// the key look like the ethertype of IPv6.
func TestFastPathEndsEveryKey(t *testing.T) {
	r := newRig(t)
	r.open()
	f := newFastRig(t, r)
	key := bpf.FastKey{Addr: [2]bpf.Addr{{B: [16]byte{12: 0x86, 13: 0xdd}}, {}}}
	f.put(bpf.MapFast, key, bpf.FastVal{End: [2]bpf.FastEnd{{Ifindex: f.clientIf}, {Ifindex: f.serverIf}}})
	f.leave(f.clientIf)
	if f.now() != 0 {
		t.Error("the element is still there")
	}
}

// A server that never closes does not keep its client's share: the half-closed
// connection goes back to the stack after a while, and works on.
func TestFastPathGivesUpHalfClosed(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		idle := f.connect(f.servers[0]) // open at both ends: it stays
		var l net.Listener
		f.server.Do(t, func() {
			var err error
			if l, err = net.Listen("tcp", netip.AddrPortFrom(f.server.IPv4, 9000).String()); err != nil {
				t.Fatal(err)
			}
		})
		defer l.Close()
		c := f.dial(f.client.NS, "tcp", l.Addr().String())
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		f.eventually(func() error { // the answer may be late, and moves something
			acknowledged := func(v bpf.FastVal) bool { return bits.OnesCount32(uint32(v.Closing)) == 2 }
			if found, err := f.kernel.flows.list(acknowledged); err != nil || len(found) != 1 {
				return fmt.Errorf("%d connections with an acknowledged FIN (%v)", len(found), err)
			}
			return nil
		})
		now := time.Now()
		sweep := func() {
			f.node.Do(t, func() {
				if err := f.kernel.SweepFastPath(now, func(uint32) bool { return true }); err != nil {
					t.Fatal(err)
				}
			})
		}
		sweep()
		now = now.Add(halfClosedIdle - time.Second)
		if sweep(); f.now() != 2 {
			t.Fatalf("%d connections on the fast path, want 2", f.now())
		}
		now = now.Add(time.Second)
		if sweep(); f.now() != 1 || f.use(f.clientIf) != 1 {
			t.Errorf("%d connections on the fast path, share of %d; want 1 and 1", f.now(), f.use(f.clientIf))
		}
		if _, err := io.WriteString(s, "pod"); err != nil {
			t.Error(err)
		}
		wantGreeting(t, c, "pod")
		if err := exchange(idle, "still here"); err != nil {
			t.Error(err)
		}
	})
}

// Connections of interfaces that lost their permission leave at the next sweep.
func TestFastPathSweepsByPermission(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		open := f.hold(2)
		f.node.Do(t, func() {
			if err := f.kernel.SweepFastPath(time.Now(), func(ifindex uint32) bool { return ifindex != f.serverIf }); err != nil {
				t.Fatal(err)
			}
		})
		if f.now() != 0 {
			t.Errorf("%d connections are still on the fast path", f.now())
		}
		for _, c := range open {
			if err := exchange(c, "still here"); err != nil {
				t.Error(err)
			}
		}
	})
}

// Conntrack is told that a busy connection is alive, and of an idle one it is not.
func TestFastPathRefreshesConntrack(t *testing.T) {
	r := newRig(t)
	r.open()
	f := newFastRig(t, r)
	f.node.Do(t, func() { f.node.Sysctl(t, "net/netfilter/nf_conntrack_tcp_timeout_established", "1000") })
	busy := f.connect(f.servers[0])
	f.node.Do(t, func() { f.node.Sysctl(t, "net/netfilter/nf_conntrack_tcp_timeout_established", "5000") })
	now := time.Now()
	for range 3 {
		if err := exchange(busy, "alive"); err != nil {
			t.Fatal(err)
		}
		f.node.Do(t, func() {
			if err := f.kernel.SweepFastPath(now, func(uint32) bool { return true }); err != nil {
				t.Fatal(err)
			}
		})
		now = now.Add(5000 * time.Second / refreshes)
	}
	out := f.run(nil, "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED")
	var number, left int
	if _, err := fmt.Sscanf(out[max(0, strings.Index(out, "tcp ")):], "tcp %d %d", &number, &left); err != nil || left < 4000 {
		t.Errorf("conntrack forgets the connection in %d s (%d, %v), want almost 5000: %s", left, number, err, out)
	}
}

// A connection in a conntrack zone of its own could not be ended there: it stays
// on the stack.
func TestFastPathLeavesZones(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		f.nft(`
table inet zones {
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		meta l4proto tcp ct zone set 7
	}
}`)
		c := f.connect(f.servers[0])
		if f.now() != 0 || f.reasons(bpf.ReasonFastUntracked) != 1 {
			t.Errorf("%d connections on the fast path, %d untracked", f.now(), f.reasons(bpf.ReasonFastUntracked))
		}
		if err := exchange(c, "works"); err != nil {
			t.Error(err)
		}
	})
}
