package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// The ways a program names a service: an IPv4 socket, an IPv6 socket, and an
// IPv6 socket with an IPv4 address, as Java uses.
var families = []struct {
	name   string
	family int
	vip    string
}{
	{"IPv4", unix.AF_INET, vip4},
	{"IPv6", unix.AF_INET6, vip6},
	{"IPv4 on an IPv6 socket", unix.AF_INET6, vip4},
}

func TestConnect(t *testing.T) {
	r := newRig(t)
	r.open()
	endpoints := r.echoes()
	r.enrol(r.client)
	r.serve(0, endpoints...)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			fd := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
			if err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatalf("connect: %v", err)
			}
			wantGreeting(t, fdConn(fd), "pod")
			wantPeer(t, fd, vip(f.vip))
			wantOriginal(t, fd, vip(f.vip))
		})
	}
	if n := r.reasons(bpf.ReasonBalanced); n != 3 {
		t.Errorf("counted %d balanced connections, want 3", n)
	}
	r.eventually(func() error {
		if s := r.stats(endpoints[0]); s.Opened != 2 || s.Established != 2 || s.Closed != 0 {
			return fmt.Errorf("stats of the IPv4 endpoint are %+v", s)
		}
		return nil
	})
}

// wantPeer checks what getpeername answers.
func wantPeer(t testing.TB, fd int, want netip.AddrPort) {
	t.Helper()
	sa, err := unix.Getpeername(fd)
	if err != nil {
		t.Errorf("getpeername: %v", err)
	} else if got := addrPort(t, sa); got != want {
		t.Errorf("getpeername is %v, want %v", got, want)
	}
}

// originalDst asks SO_ORIGINAL_DST in the way of the address family.
func originalDst(fd int, v6 bool) (netip.AddrPort, error) {
	const soOriginalDst = 80
	level := unix.SOL_IP
	if v6 {
		level = unix.SOL_IPV6
	}
	var buf unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), soOriginalDst,
		uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	port := bpf.Port(buf.Port)
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16(buf.Addr), port), nil
	}
	in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&buf))
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), port), nil
}

func wantOriginal(t testing.TB, fd int, want netip.AddrPort) {
	t.Helper()
	got, err := originalDst(fd, !want.Addr().Is4())
	if err != nil || got != want {
		t.Errorf("SO_ORIGINAL_DST is %v, %v; want %v", got, err, want)
	}
}

// withFD calls fn with the descriptor of a connection.
func withFD(t testing.TB, c *net.TCPConn, fn func(fd int)) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { fn(int(fd)) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAcceptedSocketSeesTheClient: getpeername also runs in accept.
func TestAcceptedSocketSeesTheClient(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client, r.server)
	for _, addr := range []struct{ vip, client, server string }{
		{vip4, r.client.IPv4.String(), r.server.IPv4.String()},
		{vip6, r.client.IPv6.String(), r.server.IPv6.String()},
	} {
		server := r.echo(r.server.NS, "pod", addr.server, 8080)
		r.serve(0, server.AddrPort)
		c := r.dial(r.client.NS, "tcp", vip(addr.vip).String())
		wantGreeting(t, c, "pod")
		accepted := <-server.accepted
		if got := accepted.RemoteAddr().(*net.TCPAddr).AddrPort(); got.Addr().String() != addr.client {
			t.Errorf("the server sees %v, want the client %v", got, addr.client)
		}
	}
}

// TestHairpin: a pod that reaches itself through a service, where the accepted
// socket can say what the client dialled.
func TestHairpin(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.server)
	for _, addr := range []struct{ vip, server string }{
		{vip4, r.server.IPv4.String()},
		{vip6, r.server.IPv6.String()},
	} {
		server := r.echo(r.server.NS, "pod", addr.server, 8080)
		r.serve(0, server.AddrPort)
		c := r.dial(r.server.NS, "tcp", vip(addr.vip).String())
		wantGreeting(t, c, "pod")
		accepted := <-server.accepted
		withFD(t, accepted, func(fd int) {
			wantOriginal(t, fd, vip(addr.vip))
			wantPeer(t, fd, c.LocalAddr().(*net.TCPAddr).AddrPort())
		})
		withFD(t, c, func(fd int) { wantPeer(t, fd, vip(addr.vip)) })
	}
}

func TestConnectedUDP(t *testing.T) {
	r := newRig(t)
	r.open()
	endpoints := r.echoes()
	r.enrol(r.client)
	r.serve(0, endpoints...)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			fd := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
			if err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(fd, []byte("ping")); err != nil {
				t.Fatal(err)
			}
			wantDatagram(t, fd, "pod:ping", vip(f.vip))
			wantPeer(t, fd, vip(f.vip))
		})
	}
}

// wantDatagram receives one datagram with its source.
func wantDatagram(t testing.TB, fd int, text string, from netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 64)
	n, sa, err := receive(fd, buf)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	if got := string(buf[:n]); got != text {
		t.Fatalf("received %q, want %q", got, text)
	}
	if got := addrPort(t, sa); got != from {
		t.Errorf("received from %v, want %v", got, from)
	}
}

// TestUnconnectedUDP: replies come from the service address, and a socket stays
// with its endpoint.
func TestUnconnectedUDP(t *testing.T) {
	r := newRig(t)
	r.open()
	var endpoints []netip.AddrPort
	for i := range uint16(8) {
		name := fmt.Sprintf("pod%d", i)
		endpoints = append(endpoints,
			r.echo(r.server.NS, name, r.server.IPv4.String(), 8080+i).AddrPort,
			r.echo(r.server.NS, name, r.server.IPv6.String(), 8080+i).AddrPort)
	}
	r.enrol(r.client)
	r.serve(0, endpoints...)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			fd := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
			buf := make([]byte, 64)
			var first string
			for i := range 20 {
				if err := unix.Sendto(fd, []byte("x"), 0, sockaddr(f.family, vip(f.vip))); err != nil {
					t.Fatal(err)
				}
				n, sa, err := receive(fd, buf)
				if err != nil {
					t.Fatal(err)
				}
				if got := addrPort(t, sa); got != vip(f.vip) {
					t.Fatalf("received from %v, want %v", got, vip(f.vip))
				}
				if i == 0 {
					first = string(buf[:n])
				} else if got := string(buf[:n]); got != first {
					t.Fatalf("datagram %d went to %q, the first to %q", i, got, first)
				}
			}
		})
	}
}

// TestNoEndpoint: the call itself fails, with the reason counted.
func TestNoEndpoint(t *testing.T) {
	r := newRig(t)
	r.open()
	r.echoes()
	r.enrol(r.client)
	r.serve(0)
	var want uint64
	for _, f := range families {
		tcp := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
		if err := nettest.Connect(tcp, sockaddr(f.family, vip(f.vip))); err != unix.ECONNREFUSED {
			t.Errorf("%s: TCP connect: %v, want ECONNREFUSED", f.name, err)
		}
		want++
		connected := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
		if err := nettest.Connect(connected, sockaddr(f.family, vip(f.vip))); err != unix.ECONNREFUSED {
			t.Errorf("%s: UDP connect: %v, want ECONNREFUSED", f.name, err)
		}
		want++
		udp := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
		if err := unix.Sendto(udp, []byte("x"), 0, sockaddr(f.family, vip(f.vip))); err != unix.ECONNREFUSED {
			t.Errorf("%s: UDP send: %v, want ECONNREFUSED", f.name, err)
		}
		want++
	}
	if n := r.reasons(bpf.ReasonNoEndpoint); n != want {
		t.Errorf("counted %d times no_endpoint, want %d", n, want)
	}
	if n := r.refusals(bpf.ReasonNoEndpoint); n != want {
		t.Errorf("counted %d refusals of the service, want %d", n, want)
	}
}

// TestNoEndpointOnOldKernels: without bpf_set_retval a connect is refused too.
func TestNoEndpointOnOldKernels(t *testing.T) {
	r := newRig(t)
	r.system.retval = func() Feature { return Feature{"set_retval", false, "switched off by the test"} }
	r.open()
	r.enrol(r.client)
	r.serve(0)
	for _, f := range families {
		fd := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
		if err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err != unix.ECONNREFUSED {
			t.Errorf("%s: connect: %v, want ECONNREFUSED", f.name, err)
		}
		udp := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
		if err := unix.Sendto(udp, []byte("x"), 0, sockaddr(f.family, vip(f.vip))); err != unix.EPERM {
			t.Errorf("%s: UDP send: %v, want EPERM", f.name, err)
		}
	}
}

// TestUntouched: who is not enrolled reaches what the address leads to without
// a mesh.
func TestUntouched(t *testing.T) {
	r := newRig(t)
	own := filepath.Join(r.options.Cgroup, "own")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	r.options.OwnCgroups = []uint64{nettest.CgroupID(t, own)}
	r.open()
	endpoints := r.echoes()
	r.serve(0, endpoints...)
	reach := func(t *testing.T, ns *nettest.NS, want string) {
		t.Helper()
		for _, f := range families {
			fd := r.socket(ns, f.family, unix.SOCK_STREAM, 0)
			if err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatalf("%s: connect: %v", f.name, err)
			}
			wantGreeting(t, fdConn(fd), want)
			wantPeer(t, fd, vip(f.vip))
			if want == "plain" {
				if got, err := originalDst(fd, f.vip == vip6); err == nil {
					t.Errorf("%s: SO_ORIGINAL_DST is %v", f.name, got)
				}
			}
			udp := r.socket(ns, f.family, unix.SOCK_DGRAM, 0)
			if err := unix.Sendto(udp, []byte("x"), 0, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatalf("%s: send: %v", f.name, err)
			}
			wantDatagram(t, udp, want+":x", vip(f.vip))
		}
	}
	t.Run("un-enrolled pod", func(t *testing.T) { reach(t, r.client.NS, "plain") })
	r.enrol(r.client)
	t.Run("enrolled pod", func(t *testing.T) { reach(t, r.client.NS, "pod") })
	t.Run("host network", func(t *testing.T) { reach(t, r.node, "plain") })
	t.Run("own cgroup in the pod's namespace", func(t *testing.T) {
		nettest.Join(t, own)
		reach(t, r.client.NS, "plain")
	})
	r.options.OwnCgroups = nil
	r.reopen()
	t.Run("no longer own cgroup", func(t *testing.T) {
		nettest.Join(t, own)
		reach(t, r.client.NS, "pod")
	})
}

// TestBoundToDevice: a socket that is bound to the pod's interface is
// translated like any other.
func TestBoundToDevice(t *testing.T) {
	r := newRig(t)
	r.open()
	r.echoes()
	r.enrol(r.client)
	r.serve(0, r.echo(r.server.NS, "bound", r.server.IPv4.String(), 9090).AddrPort)
	fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := unix.BindToDevice(fd, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := nettest.Connect(fd, sockaddr(unix.AF_INET, vip(vip4))); err != nil {
		t.Fatal(err)
	}
	wantGreeting(t, fdConn(fd), "bound")
	wantPeer(t, fd, vip(vip4))
}

// TestReconnect: a UDP socket that is connected to something else forgets the
// service.
func TestReconnect(t *testing.T) {
	r := newRig(t)
	r.open()
	endpoints := r.echoes()
	r.enrol(r.client)
	r.serve(0, endpoints...)
	fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := nettest.Connect(fd, sockaddr(unix.AF_INET, vip(vip4))); err != nil {
		t.Fatal(err)
	}
	wantPeer(t, fd, vip(vip4))
	if err := nettest.Connect(fd, sockaddr(unix.AF_INET, endpoints[0])); err != nil {
		t.Fatal(err)
	}
	wantPeer(t, fd, endpoints[0])
	if got, err := originalDst(fd, false); err == nil {
		t.Errorf("SO_ORIGINAL_DST is %v", got)
	}
}

// TestOtherSocketOptions: the getsockopt hook leaves all others alone, also
// those whose value is longer than what the kernel shows a program.
func TestOtherSocketOptions(t *testing.T) {
	r := newRig(t)
	r.open()
	c := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
	if n, err := unix.GetsockoptInt(c, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || n != unix.SOCK_STREAM {
		t.Errorf("SO_TYPE is %d, %v", n, err)
	}
	long := make([]byte, 16<<10)
	size := uint32(len(long))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(c), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&long[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size == 0 {
		t.Errorf("TCP_INFO into 16 KiB: %v, %d bytes", errno, size)
	}
	if _, err := originalDst(c, false); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOPROTOOPT) && !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("SO_ORIGINAL_DST of a socket that is not connected: %v", err)
	}
}

func TestDecide(t *testing.T) {
	r := newRig(t)
	k := r.open()
	r.enrol(r.client)
	endpoint := netip.AddrPortFrom(r.server.IPv4, 8080)
	r.serve(0, endpoint)
	in := bpf.ConnectIn{Netns: r.client.Cookie(), Addr: bpf.AddrFrom(netip.MustParseAddr(vip4)),
		PortBe: bpf.PortBE(vipPort), Proto: unix.IPPROTO_TCP}
	out, err := k.Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := netip.AddrPortFrom(bpf.AddrOf(out.Addr), bpf.Port(out.PortBe)); out.Verdict != bpf.VerdictTranslate || got != endpoint {
		t.Errorf("decided %v to %v", out.Verdict, got)
	}
	in.Netns = r.server.Cookie()
	if out, err = k.Decide(in); err != nil || out.Reason != bpf.ReasonNotEnrolled {
		t.Errorf("decided %+v, %v for a namespace that is not enrolled", out, err)
	}
	if n := r.reasons(bpf.ReasonBalanced); n != 0 {
		t.Errorf("asking counted as %d connections", n)
	}
}
