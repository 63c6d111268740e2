package bpf_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

func TestConnectTCP(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		vip := netip.MustParseAddrPort(way.vip)
		server, at := serve(t, domainOf(way.server), unix.SOCK_STREAM, way.server)
		id := l.service(t, way.vip, tcp, 0, at)

		client := open(t, way.domain, unix.SOCK_STREAM)
		self := netip.AddrPortFrom(netip.MustParseAddr(way.self), 0)
		if err := unix.Bind(int(client), sockaddr(way.domain, self)); err != nil {
			t.Fatal(err)
		}
		if err := client.connect(way.domain, mapped(way.domain, way.vip)); err != nil {
			t.Fatalf("connect: %v", err)
		}
		accepted, from := server.accept(t)
		if from.Addr() != self.Addr() || accepted.peer(t) != from {
			t.Errorf("the server sees %s and %s, the client is %s", from, accepted.peer(t), self)
		}
		if got := client.peer(t); got != vip {
			t.Errorf("the client's peer is %s, want %s", got, vip)
		}
		if got, err := client.originalDst(way.family); err != nil || got != vip {
			t.Errorf("the client's original destination is %s, %v; want %s", got, err, vip)
		}
		if got, err := accepted.originalDst(way.family); err == nil {
			t.Errorf("the server, reached over another address, was told %s", got)
		}
		want := bpf.StatVal{Opened: 1, Established: 1}
		if got := l.stat(id, at); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		client.close(t)
		want.Closed = 1
		if got := l.stat(id, at); got != want {
			t.Errorf("after close: %+v, want %+v", got, want)
		}
	})
}

// TestRefused: no endpoint is ECONNREFUSED, at once, on every kernel.
func TestRefused(t *testing.T) {
	configs(t, func(t *testing.T, config bpf.Config) {
		l := newLive(t, config)
		l.each(t, func(t *testing.T, i int) {
			way := ways[i]
			id := l.service(t, way.empty, tcp, 0)
			client := open(t, way.domain, unix.SOCK_STREAM)
			start := time.Now()
			err := client.connect(way.domain, mapped(way.domain, way.empty))
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connect: %v", err)
			}
			// A lost or unanswered SYN would be sent again after a second.
			if took := time.Since(start); took > 900*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			var refused uint64
			key := bpf.RefusalKey{Service: id, Reason: bpf.ReasonNoEndpoint}
			if err := l.maps[bpf.MapRefusals].Lookup(key, &refused); err != nil || refused != 1 {
				t.Errorf("counted %d refusals, %v", refused, err)
			}

			l.service(t, way.empty, udp, 0)
			datagram := open(t, way.domain, unix.SOCK_DGRAM)
			to := sockaddr(way.domain, netip.MustParseAddrPort(mapped(way.domain, way.empty)))
			want := unix.EPERM
			if config.SetRetval {
				want = unix.ECONNREFUSED
			}
			if err := unix.Sendto(int(datagram), []byte("?"), 0, to); !errors.Is(err, want) {
				t.Errorf("sendto: %v, want %v", err, want)
			}
		})
	})
}

// TestLoneVariant: an address that is a service for one namespace only. Its
// clients are translated, what others dial is left as it is.
func TestLoneVariant(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		_, own := serve(t, domainOf(way.self), unix.SOCK_STREAM, way.self)
		_, other := serve(t, domainOf(way.server), unix.SOCK_STREAM, way.server)
		id := l.service(t, own.String(), tcp, 0, other)
		first := bpf.ServiceKey{Addr: bpf.AddrFrom(own.Addr()), PortBe: bpf.PortBE(own.Port()), Proto: tcp}
		variant := first
		variant.Scope = 1
		put(t, l.maps[bpf.MapServices], variant, bpf.ServiceVal{Service: id, Cluster: id})
		put(t, l.maps[bpf.MapServices], first, bpf.ServiceVal{Flags: bpf.ServiceScoped | bpf.ServiceVariants})
		t.Cleanup(func() { put(t, l.maps[bpf.MapPods], l.Cookie(), bpf.PodVal{Scope: 1}) })
		for _, scope := range []uint64{1, 2} {
			put(t, l.maps[bpf.MapPods], l.Cookie(), bpf.PodVal{Scope: scope})
			client := open(t, way.domain, unix.SOCK_STREAM)
			if err := client.connect(way.domain, mapped(way.domain, own.String())); err != nil {
				t.Fatalf("scope %d: connect: %v", scope, err)
			}
			if got := l.stat(id, other).Opened; got != 1 {
				t.Errorf("after scope %d: %d connections were translated, want that of scope 1", scope, got)
			}
		}
	})
}

// TestItself: a pod that reaches itself through a service. The server can ask
// for what the client dialled, as a proxy in the pod does.
func TestItself(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		vip := netip.MustParseAddrPort(way.vip)
		server, at := serve(t, way.domain, unix.SOCK_STREAM, mappedAddr(way.domain, way.self))
		l.service(t, way.vip, tcp, 0, at)
		client := open(t, way.domain, unix.SOCK_STREAM)
		self := netip.AddrPortFrom(netip.MustParseAddr(way.self), 0)
		if err := unix.Bind(int(client), sockaddr(way.domain, self)); err != nil {
			t.Fatal(err)
		}
		if err := client.connect(way.domain, mapped(way.domain, way.vip)); err != nil {
			t.Fatal(err)
		}
		accepted, from := server.accept(t)
		if from.Addr() != self.Addr() || accepted.peer(t) != from {
			t.Errorf("the server sees %s and %s, the client is %s", from, accepted.peer(t), self)
		}
		if got, err := accepted.originalDst(way.family); err != nil || got != vip {
			t.Errorf("the original destination is %s, %v; want %s", got, err, vip)
		}
		var key bpf.FlowKey
		if err := l.maps[bpf.MapFlows].NextKey(nil, &key); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("flow %+v is left over, %v", key, err)
		}
	})
}

// TestStaleFlow: a flow that was never accepted is not taken for the original
// destination of a later connection from the same port.
func TestStaleFlow(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		server, at := serve(t, way.domain, unix.SOCK_STREAM, mappedAddr(way.domain, way.self))
		client := open(t, way.domain, unix.SOCK_STREAM)
		if err := unix.Bind(int(client), sockaddr(way.domain, netip.AddrPortFrom(at.Addr(), 0))); err != nil {
			t.Fatal(err)
		}
		name, err := unix.Getsockname(int(client))
		if err != nil {
			t.Fatal(err)
		}
		put(t, l.maps[bpf.MapFlows], bpf.FlowKey{
			Netns: l.Cookie(),
			Src:   bpf.AddrFrom(at.Addr()), SrcPortBe: bpf.PortBE(addrPort(name).Port()),
			Dst: bpf.AddrFrom(at.Addr()), DstPortBe: bpf.PortBE(at.Port()),
		}, bpf.FlowVal{ServiceAddr: bpf.AddrFrom(netip.MustParseAddrPort(way.vip).Addr()), ServicePortBe: bpf.PortBE(80)})
		if err := client.connect(way.domain, mapped(way.domain, at.String())); err != nil {
			t.Fatal(err)
		}
		accepted, _ := server.accept(t)
		if got, err := accepted.originalDst(way.family); err == nil {
			t.Errorf("a direct connection has the original destination %s", got)
		}
	})
}

// TestUntouched: namespaces outside the mesh and Heddle's own processes get
// what they asked for, which here is an address without a route.
func TestUntouched(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	try := func(t *testing.T, ns *nettest.NS) {
		t.Helper()
		ns.Do(t, func() {
			for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
				client := open(t, unix.AF_INET, kind)
				if err := client.connect(unix.AF_INET, "10.96.0.1:80"); !errors.Is(err, unix.ENETUNREACH) {
					t.Errorf("connect: %v", err)
				}
			}
		})
	}
	_, at := netip.AddrPort{}, netip.MustParseAddrPort(podB4+":1")
	l.service(t, "10.96.0.1:80", tcp, 0, at)
	l.service(t, "10.96.0.1:80", udp, 0, at)
	t.Run("not enrolled", func(t *testing.T) { try(t, nettest.Netns(t)) })
	put(t, l.maps[bpf.MapOwn], nettest.CgroupID(t, l.cgroup), uint8(1))
	t.Run("own", func(t *testing.T) { try(t, l.NS) })
}

func TestAffinity(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.Do(t, func() {
		var at []netip.AddrPort
		for range 8 {
			_, a := serve(t, unix.AF_INET, unix.SOCK_DGRAM, podB4)
			at = append(at, a)
		}
		id := l.service(t, "10.96.0.1:80", udp, 3600, at...)
		for range 20 {
			client := open(t, unix.AF_INET, unix.SOCK_DGRAM)
			if err := client.connect(unix.AF_INET, "10.96.0.1:80"); err != nil {
				t.Fatal(err)
			}
		}
		var used int
		for _, a := range at {
			if n := l.stat(id, a).Opened; n == 20 {
				used++
			} else if n != 0 {
				t.Errorf("%s got %d of 20 connections", a, n)
			}
		}
		if used != 1 {
			t.Errorf("%d endpoints were used", used)
		}
	})
}

// TestOtherOptions: the hook on getsockopt leaves everything else alone, also
// values longer than it is shown.
func TestOtherOptions(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.Do(t, func() {
		s := open(t, unix.AF_INET, unix.SOCK_STREAM)
		if kind, err := unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
			t.Errorf("SO_TYPE is %d, %v", kind, err)
		}
		big := make([]byte, 3*4096)
		size := uint32(len(big))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), unix.SOL_TCP, unix.TCP_INFO,
			uintptr(unsafe.Pointer(&big[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 || size == 0 || size >= 4096 {
			t.Errorf("TCP_INFO into a long buffer: %v, %d bytes", errno, size)
		}
		if _, err := s.originalDst(unix.AF_INET); err == nil {
			t.Error("a socket that is not connected has an original destination")
		}
	})
}
