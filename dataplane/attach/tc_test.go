package attach

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// inBothModes runs a test under tcx and under clsact.
func inBothModes(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, mode := range []string{modeTCX, modeClsact} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			r.options.TC = mode
			r.open()
			test(t, r)
		})
	}
}

// receiver is a UDP socket of a namespace that keeps what it receives.
type receiver struct {
	netip.AddrPort
	conn *net.UDPConn
}

func (r *rig) receiver(ns *nettest.NS, addr string) receiver {
	r.Helper()
	v := receiver{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(addr), 7000)}
	ns.Do(r, func() {
		var err error
		if v.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(v.AddrPort)); err != nil {
			r.Fatal(err)
		}
	})
	r.Cleanup(func() { v.conn.Close() })
	return v
}

// next returns the next datagram.
func (v receiver) next(t testing.TB) string {
	t.Helper()
	buf := make([]byte, 64)
	if err := v.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := v.conn.Read(buf)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return string(buf[:n])
}

// send sends one datagram. Only what happens to it later says more.
func (r *rig) send(from *nettest.NS, to netip.AddrPort, text string) {
	r.Helper()
	from.Do(r, func() {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			r.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte(text))
	})
}

// counted waits until a reason has been counted since before.
func (r *rig) counted(reason bpf.Reason, before uint64) {
	r.Helper()
	r.eventually(func() error {
		if r.reasons(reason) == before {
			return fmt.Errorf("%v was not counted", reason)
		}
		return nil
	})
}

// TestNothingPassesBeforeProgramming: between attach and hd_ifaces, in both
// directions.
func TestNothingPassesBeforeProgramming(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		for _, family := range []struct{ node, pod string }{
			{"169.254.1.1", r.client.IPv4.String()},
			{"fd96::10", r.client.IPv6.String()},
		} {
			atNode, atPod := r.receiver(r.node, family.node), r.receiver(r.client.NS, family.pod)
			// Neighbours are known, so that what is dropped is the datagram.
			r.send(r.client.NS, atNode.AddrPort, "unfiltered")
			r.send(r.node, atPod.AddrPort, "unfiltered")
			if atNode.next(t) != "unfiltered" || atPod.next(t) != "unfiltered" {
				t.Fatal("the pod is not reachable without Heddle")
			}
			ifindex := r.attachOnly("client")
			for from, to := range map[*nettest.NS]receiver{r.client.NS: atNode, r.node: atPod} {
				before := r.reasons(bpf.ReasonNotProgrammed)
				r.send(from, to.AddrPort, "too early")
				r.counted(bpf.ReasonNotProgrammed, before)
			}
			r.program(ifindex, r.client)
			r.send(r.client.NS, atNode.AddrPort, "programmed")
			r.send(r.node, atPod.AddrPort, "programmed")
			for _, v := range []receiver{atNode, atPod} {
				if got := v.next(t); got != "programmed" {
					t.Errorf("%v received %q", v, got)
				}
			}
			r.delete(bpf.MapIfaces, ifindex)
			before := r.reasons(bpf.ReasonNotProgrammed)
			r.send(r.client.NS, atNode.AddrPort, "too late")
			r.counted(bpf.ReasonNotProgrammed, before)
			r.node.Do(t, func() {
				if err := r.kernel.DetachIface(ifindex); err != nil {
					t.Fatal(err)
				}
			})
			r.send(r.client.NS, atNode.AddrPort, "detached")
			if got := atNode.next(t); got != "detached" {
				t.Errorf("the node received %q", got)
			}
		}
	})
}

func TestInterfaceCounters(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		ifindex := r.attach("client", r.client)
		atNode, atPod := r.receiver(r.node, "169.254.1.1"), r.receiver(r.client.NS, r.client.IPv4.String())
		r.send(r.client.NS, atNode.AddrPort, "to the node")
		r.send(r.node, atPod.AddrPort, "to the pod")
		atNode.next(t)
		atPod.next(t)
		s := r.ifaceStat(ifindex)
		const frame = 14 + 20 + 8
		if s.RxPackets == 0 || s.RxBytes < frame+11 || s.TxPackets == 0 || s.TxBytes < frame+10 || s.Dropped != 0 {
			t.Errorf("counted %+v", s)
		}
	})
}

// frames are sent by the pod as they are, past its IP stack.
type frames struct {
	rig  *rig
	fd   int
	to   *unix.SockaddrLinklayer
	dst  net.HardwareAddr // the node's side
	src  net.HardwareAddr
	ours netip.Addr
	v6   netip.Addr
}

func (r *rig) frames(pod *nettest.Pod) *frames {
	r.Helper()
	f := &frames{rig: r, fd: r.socket(pod.NS, unix.AF_PACKET, unix.SOCK_RAW, 0), ours: pod.IPv4, v6: pod.IPv6}
	mac := func(ns *nettest.NS, name string) (addr net.HardwareAddr) {
		ns.Do(r, func() {
			l, err := netlink.LinkByName(name)
			if err != nil {
				r.Fatal(err)
			}
			addr = l.Attrs().HardwareAddr
		})
		return addr
	}
	f.dst, f.src = mac(r.node, pod.Host), mac(pod.NS, "eth0")
	f.to = &unix.SockaddrLinklayer{Ifindex: int(pod.Ifindex(r, "eth0")), Halen: 6}
	return f
}

func (f *frames) send(ethertype uint16, payload []byte) {
	f.rig.Helper()
	frame := slices.Concat(f.dst, f.src, binary.BigEndian.AppendUint16(nil, ethertype), payload)
	if err := unix.Sendto(f.fd, frame, 0, f.to); err != nil {
		f.rig.Fatalf("send frame: %v", err)
	}
}

// udp4 builds an IPv4 packet with a datagram.
func udp4(src, dst netip.Addr, port uint16, text string) []byte {
	ip := make([]byte, 20, 64)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(text)))
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	checksum4(ip)
	return append(append(ip, udpHeader(port, text)...), text...)
}

// checksum4 writes the checksum of an IPv4 header.
func checksum4(ip []byte) {
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
}

func udpHeader(port uint16, text string) []byte {
	udp := make([]byte, 8)
	binary.BigEndian.PutUint16(udp, 1234)
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(text)))
	return udp
}

// udp6 builds an IPv6 packet with a datagram without checksum, which nobody is
// to accept.
func udp6(src, dst netip.Addr, port uint16, text string) []byte {
	ip := make([]byte, 40, 96)
	ip[0], ip[6], ip[7] = 0x60, unix.IPPROTO_UDP, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(8+len(text)))
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	return append(append(ip, udpHeader(port, text)...), text...)
}

func arpRequest(sender, target netip.Addr) []byte {
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1}
	arp = append(arp, sender.AsSlice()...)
	arp = append(arp, 0, 0, 0, 0, 0, 0)
	return append(arp, target.AsSlice()...)
}

// TestFloor: from an enrolled pod, nothing passes but what the pod may send.
func TestFloor(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		ifindex := r.attach("client", r.client)
		f := r.frames(r.client)
		node := r.receiver(r.node, "169.254.1.1")
		other4, other6 := netip.MustParseAddr("10.9.0.99"), netip.MustParseAddr("fd09::99")
		nodeAddr := node.Addr()
		vlan := func(payload []byte) []byte { return append([]byte{0, 5, 8, 0}, payload...) }
		for i, test := range []struct {
			name      string
			ethertype uint16
			packet    []byte
			reason    bpf.Reason
		}{
			{"IPv4 of another pod", unix.ETH_P_IP, udp4(other4, nodeAddr, 7000, "spoofed"), bpf.ReasonSpoofedSource},
			{"IPv4 of the node", unix.ETH_P_IP, udp4(nodeAddr, nodeAddr, 7000, "spoofed"), bpf.ReasonSpoofedSource},
			{"IPv6 of another pod", unix.ETH_P_IPV6, udp6(other6, netip.MustParseAddr(vip6), 7000, "spoofed"), bpf.ReasonSpoofedSource},
			{"ARP for another pod", unix.ETH_P_ARP, arpRequest(other4, nodeAddr), bpf.ReasonSpoofedSource},
			{"VLAN tag", unix.ETH_P_8021Q, vlan(udp4(f.ours, nodeAddr, 7000, "tagged")), bpf.ReasonEthertype},
			{"double VLAN tag", unix.ETH_P_8021AD, append([]byte{0, 5, 0x81, 0}, vlan(udp4(f.ours, nodeAddr, 7000, "tagged"))...), bpf.ReasonEthertype},
			{"LLDP", 0x88cc, make([]byte, 50), bpf.ReasonEthertype},
			{"short IPv4", unix.ETH_P_IP, []byte{0x45, 0, 0}, bpf.ReasonTruncated},
		} {
			before, dropped := r.reasons(test.reason), r.ifaceStat(ifindex).Dropped
			f.send(test.ethertype, test.packet)
			r.counted(test.reason, before)
			if n := r.ifaceStat(ifindex).Dropped; n != dropped+1 {
				t.Errorf("%s: the interface counts %d drops, had %d", test.name, n, dropped)
			}
			genuine := fmt.Sprintf("genuine %d", i)
			f.send(unix.ETH_P_IP, udp4(f.ours, nodeAddr, 7000, genuine))
			if got := node.next(t); got != genuine {
				t.Errorf("%s: the node received %q", test.name, got)
			}
		}
	})
}

// TestUnhookedConnection: a packet to a service that no hook has seen is not
// translated, and counted.
func TestUnhookedConnection(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		r.attach("client", r.client)
		r.serve(0, netip.AddrPortFrom(r.server.IPv4, 8080))
		before := r.reasons(bpf.ReasonServiceUnhooked)
		f := r.frames(r.client)
		f.send(unix.ETH_P_IP, udp4(f.ours, netip.MustParseAddr(vip4), vipPort, "raw"))
		r.counted(bpf.ReasonServiceUnhooked, before)
	})
}

// routerAdvertisement builds a packet that makes its sender a default router.
func routerAdvertisement(src netip.Addr) []byte {
	icmp := make([]byte, 16)
	icmp[0], icmp[4] = 134, 64
	binary.BigEndian.PutUint16(icmp[6:], 1800) // seconds
	dst := netip.MustParseAddr("ff02::1")
	ip := make([]byte, 40, 64)
	ip[0], ip[5], ip[6], ip[7] = 0x60, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	var sum uint32
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), {0, byte(len(icmp)), 0, unix.IPPROTO_ICMPV6}, icmp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	return append(ip, icmp...)
}

// TestPodIsNoRouter: a node believes router advertisements where it does not
// forward IPv6, as on most clusters with IPv4 alone.
func TestPodIsNoRouter(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		router := netip.MustParseAddr("fe80::bad")
		believed := func() bool {
			found := false
			r.node.Do(t, func() {
				routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Gw: router.AsSlice()}, netlink.RT_FILTER_GW)
				if err != nil {
					t.Fatal(err)
				}
				found = len(routes) > 0
			})
			return found
		}
		// 2: also while it forwards, as the nodes of these tests do.
		r.node.Do(t, func() { r.node.Sysctl(t, "net/ipv6/conf/client/accept_ra", "2") })
		f := r.frames(r.client)
		r.attach("client", r.client)
		before := r.reasons(bpf.ReasonSpoofedSource)
		f.send(unix.ETH_P_IPV6, routerAdvertisement(router))
		r.counted(bpf.ReasonSpoofedSource, before)
		if believed() {
			t.Error("the node sends its traffic to the pod")
		}
		r.node.Do(t, func() {
			if err := r.kernel.DetachIface(r.node.Ifindex(t, "client")); err != nil {
				t.Fatal(err)
			}
		})
		f.send(unix.ETH_P_IPV6, routerAdvertisement(router))
		r.eventually(func() error {
			if !believed() {
				return fmt.Errorf("without the floor the node does not believe it either: the test proves nothing")
			}
			return nil
		})
	})
}

// TestRawSocket: a raw socket of the pod cannot send as another.
func TestRawSocket(t *testing.T) {
	r := newRig(t)
	r.open()
	r.attach("client", r.client)
	fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	node := netip.MustParseAddr("169.254.1.1")
	before := r.reasons(bpf.ReasonSpoofedSource)
	packet := udp4(netip.MustParseAddr("10.9.0.99"), node, 7000, "raw")
	if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: node.As4()}); err != nil {
		t.Fatal(err)
	}
	r.counted(bpf.ReasonSpoofedSource, before)
}

// TestBoundToDeviceMeetsTheFloor: what a bound socket sends under a wrong
// address is dropped like everything else.
func TestBoundToDeviceMeetsTheFloor(t *testing.T) {
	r := newRig(t)
	r.open()
	r.attach("client", r.client)
	r.client.Addr(t, "eth0", "10.9.0.77/32") // taken by the pod itself
	node := netip.MustParseAddr("169.254.1.1")
	fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := unix.BindToDevice(fd, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 9, 0, 77}}); err != nil {
		t.Fatal(err)
	}
	before := r.reasons(bpf.ReasonSpoofedSource)
	if err := unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Addr: node.As4(), Port: 7000}); err != nil {
		t.Fatal(err)
	}
	r.counted(bpf.ReasonSpoofedSource, before)
}

// TestInterfacesAreAdopted: an agent that starts takes over the interfaces of
// the one before, also when it attaches in the other way, and traffic flows.
func TestInterfacesAreAdopted(t *testing.T) {
	r := newRig(t)
	r.options.TC = modeTCX
	r.open()
	r.enrol(r.client)
	r.serve(0, r.echoes()...)
	ifindex := r.attach("client", r.client)
	traffic := r.load()
	for _, mode := range []string{modeTCX, modeClsact, modeClsact, modeTCX, modeClsact} {
		r.options.TC = mode
		r.reopen()
		traffic.progress()
		if got := r.kernel.Attached(); !slices.Equal(got, []uint32{ifindex}) {
			t.Fatalf("%s: attached to %v, want %d", mode, got, ifindex)
		}
		r.nextRelease()
		r.reopen()
		traffic.progress()
		r.thisRelease()
		r.reopen()
		traffic.progress()
		r.node.Do(t, func() {
			filtered, err := filteredInterfaces()
			if err != nil || filtered[ifindex] != (mode == modeClsact) {
				t.Errorf("%s: filters at %v, %v", mode, filtered, err)
			}
		})
		if linked := r.kernel.tc.linkedTo(ifindex); linked != (mode == modeTCX) {
			t.Errorf("%s: attached by a link: %v", mode, linked)
		}
		before := r.reasons(bpf.ReasonSpoofedSource)
		r.frames(r.client).send(unix.ETH_P_IP, udp4(netip.MustParseAddr("10.9.0.99"), r.server.IPv4, 7000, "spoofed"))
		r.counted(bpf.ReasonSpoofedSource, before)
	}
	traffic.stop(t)
}

// replace deletes an interface and gives its index to a new one.
func (r *rig) replace(name string, ifindex uint32) {
	r.Helper()
	r.node.Unlink(r, name)
	r.node.Do(r, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "reused", int(ifindex)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
			r.Fatalf("create an interface with index %d: %v", ifindex, err)
		}
	})
}

// TestSweep: interfaces that are gone are forgotten, also when another one has
// their index by now.
func TestSweep(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		client, server := r.attach("client", r.client), r.attach("server", r.server)
		r.node.Do(t, func() {
			if swept, err := r.kernel.SweepIfaces(nil); err != nil || len(swept) != 0 {
				t.Errorf("swept %v, %v", swept, err)
			}
		})
		r.replace("client", client)
		r.node.Do(t, func() {
			swept, err := r.kernel.SweepIfaces(nil)
			if err != nil || !slices.Equal(swept, []uint32{client}) {
				t.Errorf("swept %v, %v; want %d", swept, err, client)
			}
		})
		if again := r.attachOnly("reused"); again != client {
			t.Errorf("the new interface has index %d, want %d", again, client)
		}
		r.node.Do(t, func() {
			swept, err := r.kernel.SweepIfaces(func(i uint32) bool { return i != server })
			if err != nil || !slices.Equal(swept, []uint32{server}) {
				t.Errorf("swept %v, %v; want %d", swept, err, server)
			}
		})
		if got := r.kernel.Attached(); !slices.Equal(got, []uint32{client}) {
			t.Errorf("attached to %v, want %d", got, client)
		}
	})
}

// TestGoneInterfaceIsNotAdopted: an interface can end while no agent runs, and
// its index be given to another.
func TestGoneInterfaceIsNotAdopted(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		ifindex := r.attach("client", r.client)
		r.kernel.Close()
		r.replace("client", ifindex)
		k := r.open()
		if got := k.Attached(); len(got) != 0 {
			t.Errorf("attached to %v", got)
		}
		names, err := os.ReadDir(pins(r.options.Pins).path(linksDir))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if isInterfacePin(n.Name()) {
				t.Errorf("pin %s is left", n.Name())
			}
		}
	})
}

func TestAttachIfaceNamesWhatIsMissing(t *testing.T) {
	r := newRig(t)
	k := r.open()
	r.node.Do(t, func() {
		_, _, err := k.AttachIface("nowhere")
		wantError(t, err, "nowhere", "not found")
	})
	for _, mode := range []string{modeTCX, modeClsact} {
		r.options.TC = mode
		r.reopen()
		r.node.Do(t, func() {
			if err := r.kernel.DetachIface(4711); err != nil {
				t.Errorf("detach from an interface that never was: %v", err)
			}
		})
	}
}
