package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

func TestFastPath(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		for i, e := range f.servers {
			c := f.connect(e)
			if f.now() != 1 || f.reasons(bpf.ReasonFastPath) != uint64(i+1) || f.use(f.clientIf) != 1 {
				t.Fatalf("%s: %d connections on the fast path, %d counted, share %d", e, f.now(), f.reasons(bpf.ReasonFastPath), f.use(f.clientIf))
			}
			before := f.ifaceStat(f.serverIf)
			if err := bulk(c, 16<<20); err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			c.Close()
			f.settled()
			after := f.ifaceStat(f.serverIf)
			if after.TxBytes-before.TxBytes < 16<<20 || after.RxBytes-before.RxBytes < 16<<20 || after.TxPackets == before.TxPackets {
				t.Errorf("%s: counted %+v after %+v", e, after, before)
			}
		}
		if out := f.run(nil, "nft", "list", "counter", "inet", "node", "invalid"); !strings.Contains(out, "packets 0 ") {
			t.Errorf("conntrack found packets out of place: %s", out)
		}
	})
}

// A reset ends a connection at once.
func TestFastReset(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		for _, e := range f.servers {
			f.reset(f.connect(e))
		}
	})
}

// Half of a connection may be closed for as long as it likes.
func TestFastHalfClosed(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		c := f.dial(f.client.NS, "tcp", f.servers[0].String())
		s := <-f.servers[0].accepted
		wantGreeting(t, c, "pod")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		f.eventually(func() error { // the server's copy ends, and closes
			if f.now() != 0 {
				return errors.New("the connection is still on the fast path")
			}
			return nil
		})
		s.Close()
		f.settled()
	})
}

// Connections continue when their pod leaves the mesh, or the agent comes back
// with the fast path switched off, although conntrack has missed their packets.
// A new agent takes the fast path over as it is.
// What connections of an interface left behind that went away while no agent
// ran is swept by the next one.
// What does not fit stays on the stack, and works.
func TestFastPathIsBounded(t *testing.T) {
	r := newRig(t)
	r.options.Limits = map[string]uint32{bpf.MapFast: 16}
	r.open()
	f := newFastRig(t, r)
	var open []*net.TCPConn
	hold := func(n int) {
		for range n {
			open = append(open, f.connect(f.servers[0]))
		}
	}
	hold(5)
	if f.now() != 2 || f.reasons(bpf.ReasonFastShare) != 3 {
		t.Errorf("%d connections on the fast path, %d beyond the share; want 2 and 3", f.now(), f.reasons(bpf.ReasonFastShare))
	}
	for i := range 16 - 2 { // of others
		f.put(bpf.MapFast, bpf.FastKey{Pad: uint32(i + 1)}, bpf.FastVal{})
	}
	back := f.echo(f.client.NS, "back", f.client.IPv4.String(), 8081)
	c := f.dial(f.server.NS, "tcp", back.String())
	wantGreeting(t, c, "back")
	open = append(open, c)
	if f.reasons(bpf.ReasonFastFull) != 1 || f.use(f.serverIf) != 0 {
		t.Errorf("%d connections found the table full, share of %d; want 1 and 0", f.reasons(bpf.ReasonFastFull), f.use(f.serverIf))
	}
	for _, c := range open {
		if err := exchange(c, "works"); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	f.eventually(func() error {
		if f.now() != 16-2 || f.use(f.clientIf) != 0 {
			return fmt.Errorf("%d connections left on the fast path, want %d", f.now(), 16-2)
		}
		return nil
	})
}

// What an earlier connection left behind does not catch a new one of its name.
// The rules of a CNI plugin have their say: no handshake, no fast path.
func TestFastPathKeepsPolicy(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		f.nft(fmt.Sprintf(`
table inet cni {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ct state established,related accept
		ip saddr %s ip daddr %s tcp dport 8080 reject with tcp reset
		ip saddr %[1]s ip daddr %[2]s tcp dport 8090 drop
	}
}`, f.client.IPv4, f.server.IPv4))
		f.client.Do(t, func() {
			if c, err := net.DialTimeout("tcp", f.servers[0].String(), patience); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connected (%v) or failed otherwise: %v", c, err)
			}
		})
		silent := f.echo(f.server.NS, "pod", f.server.IPv4.String(), 8090)
		f.client.Do(t, func() {
			if c, err := net.DialTimeout("tcp", silent.String(), patience/40); err == nil {
				t.Errorf("connected to %s through a rule that drops", c.RemoteAddr())
			}
		})
		f.connect(f.servers[1]) // the rules are about IPv4
		if f.now() != 1 {
			t.Errorf("%d connections on the fast path, want 1", f.now())
		}
	})
}

// A connection whose addresses the node translates stays on the stack.
func TestFastPathLeavesNAT(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		const nodeAddress, nodePort = "10.9.1.1", 30080
		f.node.Addr(t, "lo", nodeAddress+"/32")
		f.nft(fmt.Sprintf(`
table ip nat {
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		ip daddr %s tcp dport %d dnat to %s
	}
}`, nodeAddress, nodePort, f.servers[0].AddrPort))
		c := f.dial(f.client.NS, "tcp", fmt.Sprintf("%s:%d", nodeAddress, nodePort))
		wantGreeting(t, c, "pod")
		if err := bulk(c, 4<<20); err != nil {
			t.Error(err)
		}
		if f.now() != 0 || f.reasons(bpf.ReasonFastPath) != 0 || f.reasons(bpf.ReasonFastTranslated) == 0 {
			t.Errorf("%d connections on the fast path, %d counted as translated", f.now(), f.reasons(bpf.ReasonFastTranslated))
		}
	})
}

// The segments that do not fit the other interface get their answer from the
// stack, as they would without the fast path.
func TestFastPathMTU(t *testing.T) {
	for _, fast := range []string{FastPathAuto, FastPathOff} {
		t.Run(fast, func(t *testing.T) {
			r := newRig(t)
			r.options.FastPath = fast
			r.open()
			f := newFastRig(t, r)
			f.node.Do(t, func() {
				l, err := netlink.LinkByName("server")
				if err != nil {
					t.Fatal(err)
				}
				if err := netlink.LinkSetMTU(l, 1400); err != nil {
					t.Fatal(err)
				}
			})
			for _, e := range f.servers {
				c := f.connect(e)
				if err := bulk(c, 4<<20); err != nil {
					t.Errorf("%s: %v", e, err)
				}
				if mtu := pathMTU(t, c); mtu != 1400 {
					t.Errorf("%s: the client learned an MTU of %d, want 1400", e, mtu)
				}
			}
			if n := f.reasons(bpf.ReasonFastMTU); (n > 0) != f.kernel.HasFastPath() {
				t.Errorf("%d packets were too long", n)
			}
		})
	}
}

func pathMTU(t *testing.T, c *net.TCPConn) (mtu uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		mtu = info.Pmtu
	}); err != nil {
		t.Fatal(err)
	}
	return mtu
}

// Another pod that sends in the name of an established connection meets the
// floor, not the fast path.
func TestFastPathSpoofed(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		c := f.connect(f.servers[0])
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		third := f.node.Pod(t, "third", "10.9.0.3", "fd09::3")
		ifindex := f.attach("third", third)
		f.permit(ifindex, third)
		before := f.ifaceStat(f.serverIf)
		spoofed := f.reasons(bpf.ReasonSpoofedSource)
		frames := f.frames(third)
		for range 10 {
			frames.send(unix.ETH_P_IP, tcp4(local, f.servers[0].AddrPort, 0x04)) // RST
		}
		f.eventually(func() error {
			if n := f.reasons(bpf.ReasonSpoofedSource) - spoofed; n != 10 {
				return fmt.Errorf("%d packets dropped as spoofed, want 10", n)
			}
			return nil
		})
		if after := f.ifaceStat(f.serverIf); after != before {
			t.Errorf("the server's interface counts %+v after %+v", after, before)
		}
		if err := exchange(c, "still here"); err != nil || f.now() != 1 {
			t.Errorf("%v; %d connections on the fast path", err, f.now())
		}
	})
}

// tcp4 builds a segment without data. Its own checksum is wrong: no socket is to
// receive it.
func tcp4(src, dst netip.AddrPort, flags byte) []byte {
	packet := udp4(src.Addr(), dst.Addr(), dst.Port(), strings.Repeat("\x00", 12))
	packet[9] = unix.IPPROTO_TCP
	checksum4(packet)
	packet[20], packet[21] = byte(src.Port()>>8), byte(src.Port())
	packet[24], packet[25], packet[32], packet[33] = 0, 0, 0x50, flags
	return packet
}

// Interfaces that somebody else looks at stay out.
func TestForeign(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		foreign := func() (what string) {
			f.node.Do(t, func() {
				all, err := f.kernel.Foreign([]uint32{f.clientIf, f.serverIf})
				if err != nil {
					t.Fatal(err)
				}
				if what = all[f.clientIf]; all[f.serverIf] != "" {
					t.Errorf("found %q at the other interface", all[f.serverIf])
				}
			})
			return what
		}
		if what := foreign(); what != "" {
			t.Errorf("found %q where there is nothing", what)
		}
		f.run(nil, "tc", "qdisc", "add", "dev", "client", "root", "tbf", "rate", "1gbit", "burst", "1mb", "latency", "10ms")
		if what := foreign(); !strings.Contains(what, "tbf") {
			t.Errorf("found %q, want the qdisc", what)
		}
		f.run(nil, "tc", "qdisc", "del", "dev", "client", "root")
		f.node.Do(t, func() { f.attachForeign(f.clientIf) })
		if what := foreign(); !strings.Contains(what, "hd_tc_out") && !strings.Contains(what, "filter") {
			t.Errorf("found %q, want the other program", what)
		}
	})
}

// attachForeign puts a program where Heddle does not put it.
func (f *fastRig) attachForeign(ifindex uint32) {
	f.Helper()
	program := f.kernel.tc.out
	if f.options.TC == modeTCX {
		l, err := link.AttachTCX(link.TCXOptions{Interface: int(ifindex), Program: program, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { l.Close() })
		return
	}
	other := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: int(ifindex), Parent: netlink.HANDLE_MIN_INGRESS, Handle: 9, Priority: 9, Protocol: unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: "other", DirectAction: true,
	}
	if err := netlink.FilterAdd(other); err != nil {
		f.Fatal(err)
	}
}

// Without permission for both interfaces connections stay on the stack.
func TestFastPathBarred(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		f.program(f.clientIf, f.client)
		c := f.connect(f.servers[0])
		if err := exchange(c, "works"); err != nil || f.now() != 0 || f.reasons(bpf.ReasonFastBarred) != 1 {
			t.Errorf("%v; %d connections on the fast path, %d barred", err, f.now(), f.reasons(bpf.ReasonFastBarred))
		}
	})
}

func TestFastPathManyConnections(t *testing.T) {
	r := newRig(t)
	r.open()
	f := newFastRig(t, r)
	const rounds, parallel = 40, 50
	for range rounds {
		done := make(chan error, parallel)
		f.client.Do(t, func() {
			for range parallel {
				c, err := net.DialTimeout("tcp", f.servers[0].String(), patience)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					defer c.Close()
					if got := greeting(c); got != "pod" {
						done <- errors.New(got)
						return
					}
					done <- exchange(c, "short")
				}()
			}
		})
		for range parallel {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	f.settled()
	if n := f.reasons(bpf.ReasonFastPath); n != rounds*parallel {
		t.Errorf("%d of %d connections took the fast path", n, rounds*parallel)
	}
}

// Connections to other nodes stay on the stack, which tells clients what fits
// through the uplink.
func TestFastPathUplinkMTU(t *testing.T) {
	for _, fast := range []string{FastPathAuto, FastPathOff} {
		t.Run(fast, func(t *testing.T) {
			r := newRig(t)
			r.options.FastPath = fast
			r.open()
			f := newFastRig(t, r)
			other := nettest.Netns(t)
			nettest.Veth(t, f.node, "uplink", other, "uplink")
			for _, ns := range []*nettest.NS{f.node, other} {
				ns.Do(t, func() {
					l, err := netlink.LinkByName("uplink")
					if err == nil {
						err = netlink.LinkSetMTU(l, 1400)
					}
					if err != nil {
						t.Fatal(err)
					}
				})
			}
			remote := other.Pod(t, "remote", "10.9.2.1", "fd09:2::1")
			f.node.Addr(t, "uplink", "10.8.0.1/24", "fd08::1/64")
			other.Addr(t, "uplink", "10.8.0.2/24", "fd08::2/64")
			f.node.Route(t, "uplink", "10.9.2.0/24", "10.8.0.2")
			f.node.Route(t, "uplink", "fd09:2::/64", "fd08::2")
			other.Route(t, "uplink", "10.9.0.0/24", "10.8.0.1")
			other.Route(t, "uplink", "fd09::/64", "fd08::1")
			for _, address := range []string{remote.IPv4.String(), remote.IPv6.String()} {
				c := f.dial(f.client.NS, "tcp", f.echo(remote.NS, "remote", address, 8080).String())
				wantGreeting(t, c, "remote")
				if err := bulk(c, 4<<20); err != nil {
					t.Errorf("%s: %v", address, err)
				}
				if mtu := pathMTU(t, c); mtu != 1400 || f.now() != 0 {
					t.Errorf("%s: the client learned an MTU of %d, want 1400; %d connections on the fast path", address, mtu, f.now())
				}
			}
		})
	}
}

// An IPv4 connection does not move frames that are IPv6 with the same addresses
// inside: those meet the floor.
func TestFastPathMappedAddresses(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		c := f.connect(f.servers[0])
		spoofed := f.reasons(bpf.ReasonSpoofedSource)
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		segment := tcp4(local, f.servers[0].AddrPort, 0x04)[20:] // RST
		packet := udp6(netip.AddrFrom16(local.Addr().As16()), netip.AddrFrom16(f.server.IPv4.As16()), 0, "")
		packet[6] = unix.IPPROTO_TCP
		f.frames(f.client).send(unix.ETH_P_IPV6, append(packet[:40], segment...))
		f.eventually(func() error {
			if n := f.reasons(bpf.ReasonSpoofedSource) - spoofed; n != 1 {
				return fmt.Errorf("%d frames dropped, want 1", n)
			}
			return nil
		})
		if err := exchange(c, "still here"); err != nil || f.now() != 1 {
			t.Errorf("%v; %d connections on the fast path, want 1", err, f.now())
		}
	})
}
