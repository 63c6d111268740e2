package nettest

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
)

// NS is a network namespace with its loopback up. It has no name: only the
// test process holds it, so it ends with the process at the latest.
type NS struct {
	path   string
	cookie uint64
}

// Netns creates a network namespace that lives until the test ends.
func Netns(t testing.TB) *NS {
	t.Helper()
	fd, err := newNamespace()
	if err != nil {
		t.Fatalf("create network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })

	ns := &NS{path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)}
	if ns.cookie, err = netns.Cookie(ns.path); err != nil {
		t.Fatal(err)
	}
	ns.Do(t, func() {
		ns.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
		ns.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		ns.Sysctl(t, "net/ipv4/ip_forward", "1")
		ns.Up(t, "lo")
	})
	return ns
}

// newNamespace returns a descriptor of a fresh network namespace. The thread
// that made it is locked to a goroutine that ends, and so ends with it.
func newNamespace() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}()
	<-done
	return fd, err
}

// Path names the namespace for this process and, while it runs, for others.
func (n *NS) Path() string { return n.path }

// Cookie is the kernel's number of the namespace.
func (n *NS) Cookie() uint64 { return n.cookie }

// Do calls fn inside the namespace, see [netns.Do]. fn may end the test.
func (n *NS) Do(t testing.TB, fn func()) {
	t.Helper()
	err := netns.Do(n.path, func() error { fn(); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// Sysctl writes a value below /proc/sys. Call it from inside [NS.Do].
func (n *NS) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatalf("sysctl: %v", err)
	}
}

// Up sets an interface up. Call it from inside [NS.Do].
func (n *NS) Up(t testing.TB, name string) {
	t.Helper()
	l := n.link(t, name)
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// Addr gives an interface addresses, in prefix notation.
func (n *NS) Addr(t testing.TB, name string, prefixes ...string) {
	t.Helper()
	n.Do(t, func() {
		l := n.link(t, name)
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				t.Fatal(err)
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD // usable at once, whatever the link's state
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				t.Fatalf("add address %s to %s: %v", p, name, err)
			}
		}
	})
}

// Route sends a prefix out of an interface, through a gateway on that
// interface's link when via is not empty.
func (n *NS) Route(t testing.TB, name, prefix, via string) {
	t.Helper()
	n.Do(t, func() {
		dst, err := netlink.ParseIPNet(prefix)
		if err != nil {
			t.Fatal(err)
		}
		r := &netlink.Route{LinkIndex: n.link(t, name).Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}
		if via != "" {
			r.Scope = netlink.SCOPE_UNIVERSE
			r.Gw = netip.MustParseAddr(via).AsSlice()
			r.Flags = int(netlink.FLAG_ONLINK)
		}
		if err := netlink.RouteAdd(r); err != nil {
			t.Fatalf("add route %s dev %s via %q: %v", prefix, name, via, err)
		}
	})
}

// Ifindex returns the index of an interface of the namespace.
func (n *NS) Ifindex(t testing.TB, name string) uint32 {
	t.Helper()
	var index int
	n.Do(t, func() { index = n.link(t, name).Attrs().Index })
	return uint32(index)
}

// Unlink deletes an interface of the namespace.
func (n *NS) Unlink(t testing.TB, name string) {
	t.Helper()
	n.Do(t, func() {
		if err := netlink.LinkDel(n.link(t, name)); err != nil {
			t.Fatalf("delete %s: %v", name, err)
		}
	})
}

func (n *NS) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("interface %s: %v", name, err)
	}
	return l
}

// Veth joins two namespaces by a pair of interfaces that are both up.
func Veth(t testing.TB, a *NS, aName string, b *NS, bName string) {
	t.Helper()
	fd, err := unix.Open(b.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	a.Do(t, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = aName
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(fd)}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Fatalf("create veth %s-%s: %v", aName, bName, err)
		}
		a.Up(t, aName)
	})
	b.Do(t, func() { b.Up(t, bName) })
}
