package attach

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

const (
	vip4, vip6 = "10.96.0.10", "fd96::10"
	vipPort    = 80

	serviceID = 0x5e41
	clusterID = 0xc105
)

// patience bounds every wait of these tests; only a failure is that slow.
const patience = 20 * time.Second

// rig is a node with two pods, inside a cgroup that the hooks are attached to.
// The node also listens on the service addresses itself, as "plain": that is
// where connections go that nobody translates.
type rig struct {
	testing.TB
	node           *nettest.NS
	client, server *nettest.Pod
	options        Options
	system         system
	kernel         *Kernel
}

func newRig(t testing.TB) *rig {
	nettest.RequireBPF(t)
	cgroup := nettest.Cgroup(t)
	nettest.Join(t, cgroup)
	r := &rig{TB: t, node: nettest.Netns(t)}
	r.client = r.node.Pod(t, "client", "10.9.0.1", "fd09::1")
	r.server = r.node.Pod(t, "server", "10.9.0.2", "fd09::2")
	r.node.Addr(t, "lo", vip4+"/32", vip6+"/128")
	r.options = Options{Cgroup: cgroup, Pins: nettest.Pins(t) + "/heddle", Log: slog.New(slog.NewTextHandler(logWriter{t}, nil))}
	r.system = system{machine: thisMachine, objects: bpf.Spec, retval: setRetvalFeature, walk: storageWalkFeature, bypass: bypassFeature, step: func(string) error { return nil }}
	return r
}

// logWriter shows what Open says beside the test that made it say it.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", p)
	return len(p), nil
}

// tryOpen opens in the node's namespace.
func (r *rig) tryOpen() (k *Kernel, err error) {
	r.Helper()
	r.node.Do(r, func() { k, err = open(r.options, r.system) })
	return k, err
}

func (r *rig) open() *Kernel {
	r.Helper()
	k, err := r.tryOpen()
	if err != nil {
		r.Fatalf("open: %v", err)
	}
	r.kernel = k
	r.Cleanup(func() { k.Close() })
	return k
}

func (r *rig) reopen() *Kernel {
	r.Helper()
	if err := r.kernel.Close(); err != nil {
		r.Fatalf("close: %v", err)
	}
	return r.open()
}

func (r *rig) put(name string, key, value any) {
	r.Helper()
	if err := r.kernel.Maps()[name].Put(key, value); err != nil {
		r.Fatalf("write %s: %v", name, err)
	}
}

func (r *rig) delete(name string, key any) {
	r.Helper()
	if err := r.kernel.Maps()[name].Delete(key); err != nil {
		r.Fatalf("delete from %s: %v", name, err)
	}
}

// enrol makes a pod part of the mesh.
func (r *rig) enrol(pods ...*nettest.Pod) {
	r.Helper()
	for _, p := range pods {
		r.put(bpf.MapPods, p.Cookie(), bpf.PodVal{Scope: 1})
	}
}

// serve programs the services of both families and protocols with the given
// endpoints, each of which serves the family of its address.
func (r *rig) serve(affinitySeconds uint32, endpoints ...netip.AddrPort) {
	r.Helper()
	for family, vip := range []string{vip4, vip6} {
		cluster := uint64(clusterID + family)
		var count uint32
		for _, e := range endpoints {
			if e.Addr().Is4() != (family == 0) {
				continue
			}
			r.put(bpf.MapEndpoints, bpf.EndpointKey{Cluster: cluster, Index: count}, bpf.EndpointVal{
				Addr: bpf.AddrFrom(e.Addr()), PortBe: bpf.PortBE(e.Port()), Cluster: cluster})
			r.put(bpf.MapMembers, bpf.MemberKey{Service: serviceID, Addr: bpf.AddrFrom(e.Addr()), PortBe: bpf.PortBE(e.Port())},
				bpf.MemberVal{Cluster: cluster})
			count++
		}
		r.put(bpf.MapClusters, cluster, bpf.ClusterVal{Count: count})
		for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			r.put(bpf.MapServices, serviceKey(vip, proto), bpf.ServiceVal{
				Service: serviceID, Cluster: cluster, AffinityS: affinitySeconds})
		}
	}
}

func serviceKey(vip string, proto uint8) bpf.ServiceKey {
	return bpf.ServiceKey{Addr: bpf.AddrFrom(netip.MustParseAddr(vip)), PortBe: bpf.PortBE(vipPort), Proto: proto}
}

// echo is a server that greets with its name and then echoes. It answers over
// TCP and UDP.
type echo struct {
	netip.AddrPort
	accepted chan *net.TCPConn // connections, when somebody waits for them
}

func (r *rig) echo(ns *nettest.NS, name, addr string, port uint16) echo {
	r.Helper()
	e := echo{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(addr), port), accepted: make(chan *net.TCPConn, 1)}
	ns.Do(r, func() {
		l, err := net.Listen("tcp", e.String())
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() { l.Close() })
		go e.serveTCP(l, name)
		u, err := net.ListenPacket("udp", e.String())
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() { u.Close() })
		go serveUDP(u, name)
	})
	return e
}

func (e echo) serveTCP(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case e.accepted <- c.(*net.TCPConn):
		default:
		}
		go func() {
			defer c.Close()
			if _, err := io.WriteString(c, name); err == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

func serveUDP(u net.PacketConn, name string) {
	buf := make([]byte, 1500)
	for {
		n, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = u.WriteTo(append([]byte(name+":"), buf[:n]...), from)
	}
}

// echoes starts one server in the server pod and the plain one on the node.
func (r *rig) echoes() []netip.AddrPort {
	r.Helper()
	r.echo(r.node, "plain", vip4, vipPort)
	r.echo(r.node, "plain", vip6, vipPort)
	return []netip.AddrPort{
		r.echo(r.server.NS, "pod", r.server.IPv4.String(), 8080).AddrPort,
		r.echo(r.server.NS, "pod", r.server.IPv6.String(), 8080).AddrPort,
	}
}

// dial connects from a namespace.
func (r *rig) dial(ns *nettest.NS, network, addr string) *net.TCPConn {
	r.Helper()
	var c net.Conn
	var err error
	ns.Do(r, func() { c, err = net.DialTimeout(network, addr, patience) })
	if err != nil {
		r.Fatalf("dial %s: %v", addr, err)
	}
	r.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// greeting reads the name of the server that a connection reached.
func greeting(c io.Reader) string {
	buf := make([]byte, 16)
	n, err := c.Read(buf)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(buf[:n])
}

func wantGreeting(t testing.TB, c io.Reader, want string) {
	t.Helper()
	if got := greeting(c); got != want {
		t.Fatalf("reached %q, want %q", got, want)
	}
}

// exchange sends through an echo server and reads the answer.
func exchange(c io.ReadWriter, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != text {
		return fmt.Errorf("sent %q, received %q", text, buf)
	}
	return nil
}

// socket creates a socket in a namespace, with a receive timeout.
func (r *rig) socket(ns *nettest.NS, family, typ, proto int) int {
	r.Helper()
	fd := -1
	var err error
	ns.Do(r, func() { fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto) })
	if err != nil {
		r.Fatalf("socket: %v", err)
	}
	r.Cleanup(func() { unix.Close(fd) })
	timeout := unix.NsecToTimeval(int64(patience))
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &timeout); err != nil {
			r.Fatal(err)
		}
	}
	return fd
}

// fdConn reads and writes a socket that the net package does not know.
type fdConn int

func (c fdConn) Read(p []byte) (n int, err error) {
	err = nettest.Again(func() (err error) { n, err = unix.Read(int(c), p); return })
	return n, err
}

func (c fdConn) Write(p []byte) (n int, err error) {
	err = nettest.Again(func() (err error) { n, err = unix.Write(int(c), p); return })
	return n, err
}

// receive takes one datagram.
func receive(fd int, p []byte) (n int, from unix.Sockaddr, err error) {
	err = nettest.Again(func() (err error) { n, from, err = unix.Recvfrom(fd, p, 0); return })
	return n, from, err
}

// sockaddr returns an address for a socket of the family: an IPv4 address for
// an IPv6 socket is mapped.
func sockaddr(family int, addr netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	return &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
}

func addrPort(t testing.TB, sa unix.Sockaddr) netip.AddrPort {
	t.Helper()
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	t.Fatalf("address is %T", sa)
	return netip.AddrPort{}
}

func vip(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), vipPort)
}

// reasons returns how often a reason was counted.
func (r *rig) reasons(reason bpf.Reason) uint64 {
	r.Helper()
	var perCPU []uint64
	if err := r.kernel.Maps()[bpf.MapReasons].Lookup(uint32(reason), &perCPU); err != nil {
		r.Fatalf("read %s: %v", bpf.MapReasons, err)
	}
	var total uint64
	for _, n := range perCPU {
		total += n
	}
	return total
}

func (r *rig) refusals(reason bpf.Reason) uint64 {
	r.Helper()
	var n uint64
	err := r.kernel.Maps()[bpf.MapRefusals].Lookup(bpf.RefusalKey{Service: serviceID, Reason: reason}, &n)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		r.Fatalf("read %s: %v", bpf.MapRefusals, err)
	}
	return n
}

// stats returns the counts of the service at one endpoint.
func (r *rig) stats(endpoint netip.AddrPort) bpf.StatVal {
	r.Helper()
	cluster := uint64(clusterID)
	if !endpoint.Addr().Is4() {
		cluster++
	}
	var s bpf.StatVal
	err := r.kernel.Maps()[bpf.MapStats].Lookup(bpf.StatKey{
		Service: serviceID, Cluster: cluster, Addr: bpf.AddrFrom(endpoint.Addr()), PortBe: bpf.PortBE(endpoint.Port())}, &s)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		r.Fatalf("read %s: %v", bpf.MapStats, err)
	}
	return s
}

// eventually waits until what says nothing more, and fails with what it says.
func (r *rig) eventually(what func() error) {
	r.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
