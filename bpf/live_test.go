package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// live is a namespace whose sockets pass the hooks: an enrolled pod that has
// several addresses, so that client and servers can live in it.
type live struct {
	*nettest.NS
	cgroup string
	maps   map[string]*ebpf.Map
	ids    uint64 // last id given to a service or cluster
}

// The pod's addresses, on its loopback interface.
const (
	podA4, podB4 = "10.1.0.5", "10.1.0.9"
	podA6, podB6 = "fd00::5", "fd00::9"
)

func newLive(t *testing.T, config bpf.Config) *live {
	t.Helper()
	nettest.RequireBPF(t)
	spec := kernelSpec(t)
	if err := config.Apply(spec); err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(coll.Close)
	l := &live{NS: nettest.Netns(t), cgroup: nettest.Cgroup(t), maps: coll.Maps}
	for name, program := range coll.Programs {
		if program.Type() == ebpf.SchedCLS {
			continue
		}
		attached, err := link.AttachCgroup(link.CgroupOptions{
			Path: l.cgroup, Attach: spec.Programs[name].AttachType, Program: program,
		})
		if err != nil {
			t.Fatalf("attach %s: %v", name, err)
		}
		t.Cleanup(func() { attached.Close() })
	}
	nettest.Join(t, l.cgroup)
	l.Do(t, func() { addLoopback(t, podA4+"/32", podB4+"/32", podA6+"/128", podB6+"/128") })
	l.Do(t, func() { waitForAddress(t, podA6); waitForAddress(t, podB6) })
	put(t, l.maps[bpf.MapPods], l.Cookie(), bpf.PodVal{Scope: 1})
	return l
}

// addLoopback gives the loopback interface addresses, without a route for their
// prefix: on the loopback the kernel makes that one reject, and finds it until the
// local route is there.
func addLoopback(t *testing.T, prefixes ...string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		a.Flags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD
		if err := netlink.AddrAdd(lo, a); err != nil {
			t.Fatalf("add address %s: %v", p, err)
		}
	}
}

// waitForAddress waits until an IPv6 address can be reached: the kernel makes
// its local route in the background, after it can be bound to.
func waitForAddress(t *testing.T, addr string) {
	t.Helper()
	s := open(t, unix.AF_INET6, unix.SOCK_DGRAM)
	at := sockaddr(unix.AF_INET6, netip.AddrPortFrom(netip.MustParseAddr(addr), 9))
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := unix.Connect(int(s), at); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("address %s: %v", addr, err)
		}
	}
}

// service programs a service whose clients are sent to the endpoints, and
// returns its id.
func (l *live) service(t *testing.T, vip string, proto uint8, affinity uint32, endpoints ...netip.AddrPort) uint64 {
	t.Helper()
	l.ids++
	id := l.ids
	for i, e := range endpoints {
		val := bpf.EndpointVal{Addr: bpf.AddrFrom(e.Addr()), PortBe: bpf.PortBE(e.Port()), Cluster: id}
		put(t, l.maps[bpf.MapEndpoints], bpf.EndpointKey{Cluster: id, Index: uint32(i)}, val)
		put(t, l.maps[bpf.MapMembers], member(id, e), bpf.MemberVal{Cluster: id})
	}
	put(t, l.maps[bpf.MapClusters], id, bpf.ClusterVal{Count: uint32(len(endpoints))})
	at := netip.MustParseAddrPort(vip)
	put(t, l.maps[bpf.MapServices],
		bpf.ServiceKey{Addr: bpf.AddrFrom(at.Addr()), PortBe: bpf.PortBE(at.Port()), Proto: proto},
		bpf.ServiceVal{Service: id, Cluster: id, AffinityS: affinity})
	return id
}

func member(service uint64, e netip.AddrPort) bpf.MemberKey {
	return bpf.MemberKey{Service: service, Addr: bpf.AddrFrom(e.Addr()), PortBe: bpf.PortBE(e.Port())}
}

func (l *live) stat(service uint64, e netip.AddrPort) (s bpf.StatVal) {
	key := bpf.StatKey{Service: service, Cluster: service, Addr: bpf.AddrFrom(e.Addr()), PortBe: bpf.PortBE(e.Port())}
	if err := l.maps[bpf.MapStats].Lookup(key, &s); err != nil {
		return bpf.StatVal{}
	}
	return s
}

// ways are the combinations of socket and address families.
var ways = []struct {
	name         string
	domain       int // of the client's socket
	family       int // of the address
	vip, empty   string
	server, self string // where the server listens; the client's own address
}{
	{"IPv4", unix.AF_INET, unix.AF_INET, "10.96.0.1:80", "10.96.0.2:80", podB4, podA4},
	{"IPv6", unix.AF_INET6, unix.AF_INET6, "[fd96::1]:80", "[fd96::2]:80", podB6, podA6},
	{"IPv4 from an IPv6 socket", unix.AF_INET6, unix.AF_INET, "10.96.0.1:80", "10.96.0.2:80", podB4, podA4},
}

func (l *live) each(t *testing.T, test func(t *testing.T, i int)) {
	t.Helper()
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) { l.Do(t, func() { test(t, i) }) })
	}
}

func configs(t *testing.T, test func(*testing.T, bpf.Config)) {
	for _, set := range []bool{true, false} {
		t.Run(fmt.Sprintf("set_retval=%v", set), func(t *testing.T) { test(t, bpf.Config{SetRetval: set}) })
	}
}
