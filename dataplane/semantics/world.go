package semantics

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
)

// Gateways that a node shows to each of its pods.
var (
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
)

// A World is a node with two pods, joined as a point-to-point CNI plugin does
// it: each pod has one address of each family, and its node routes them. The
// namespaces have no names. They end with Close, or with this process.
type World struct {
	// Node is the path of the node's namespace. Like those of the pods it is
	// valid in every process, while this one runs.
	Node string
	Pods [2]Pod

	fds []int
}

// A Pod of a World.
type Pod struct {
	Netns string // path
	Host  string // the node's side of its interface; the pod's side is eth0
	Index uint32 // of that, in the node's namespace
	Inner uint32 // of eth0, in the pod's
	IPv4  netip.Addr
	IPv6  netip.Addr // the zero value on a kernel without IPv6
}

// NewWorld makes a world. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and no
// external program. The caller must Close it.
func NewWorld() (w *World, err error) {
	w = &World{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make namespaces for the semantics table: %w", err), w.Close())
			w = nil
		}
	}()
	if w.Node, err = w.namespace(); err != nil {
		return w, err
	}
	for i := range w.Pods {
		p := &w.Pods[i]
		p.Host = fmt.Sprintf("pod%d", i)
		p.IPv4 = netip.AddrFrom4([4]byte{10, 20, 30, byte(i + 1)})
		if haveIPv6() {
			p.IPv6 = netip.MustParseAddr(fmt.Sprintf("fd00:20:30::%d", i+1))
		}
		if p.Netns, err = w.namespace(); err != nil {
			return w, err
		}
		if err = w.join(p); err != nil {
			return w, err
		}
	}
	return w, nil
}

// Ends are a client in the first pod and a server in the second.
func (w *World) Ends(v6 bool) Ends {
	place := func(p Pod) Place {
		if v6 {
			return Place{Netns: p.Netns, Addr: p.IPv6}
		}
		return Place{Netns: p.Netns, Addr: p.IPv4}
	}
	return Ends{Client: place(w.Pods[0]), Server: place(w.Pods[1])}
}

// Close takes the world away: the interfaces, with what is attached to them,
// and the namespaces. It may be called again.
func (w *World) Close() error {
	var all []error
	for _, p := range w.Pods {
		if p.Index == 0 {
			continue
		}
		all = append(all, netns.Do(w.Node, func() error {
			l, err := netlink.LinkByName(p.Host)
			if err != nil {
				return fmt.Errorf("interface %s: %w", p.Host, err)
			}
			return netlink.LinkDel(l)
		}))
	}
	for _, fd := range w.fds {
		all = append(all, unix.Close(fd))
	}
	*w = World{}
	return errors.Join(all...)
}

// namespace makes a network namespace that forwards, and returns its path. The
// thread that made it is locked to a goroutine that ends, and so ends with it.
func (w *World) namespace() (path string, err error) {
	fd := -1
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("make a network namespace: %w", err)
			return
		}
		if fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("open a network namespace: %w", err)
			return
		}
		err = prepare()
	}()
	<-done
	if fd >= 0 {
		w.fds = append(w.fds, fd)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), err
}

// prepare sets up the namespace that the thread is in.
func prepare() error {
	settings := [][2]string{{"ipv4/ip_forward", "1"}}
	if haveIPv6() {
		settings = append(settings, [][2]string{
			{"ipv6/conf/all/disable_ipv6", "0"},
			{"ipv6/conf/default/disable_ipv6", "0"},
			{"ipv6/conf/default/accept_dad", "0"},
			{"ipv6/conf/all/forwarding", "1"},
		}...)
	}
	for _, kv := range settings {
		if err := netns.Sysctl(kv[0], kv[1]); err != nil {
			return err
		}
	}
	_, err := up("lo")
	return err
}

func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func up(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return nil, fmt.Errorf("bring %s up: %w", name, err)
	}
	return l, nil
}

// join gives a pod its interface.
func (w *World) join(p *Pod) error {
	fd, err := unix.Open(p.Netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Netns, err)
	}
	defer unix.Close(fd)
	err = netns.Do(w.Node, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = p.Host
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}); err != nil {
			return fmt.Errorf("make interface %s: %w", p.Host, err)
		}
		l, err := up(p.Host)
		if err != nil {
			return err
		}
		p.Index = uint32(l.Attrs().Index)
		for _, a := range p.Addresses() {
			if err := address(l, gatewayOf(a)); err != nil {
				return err
			}
			if err := route(l, netip.PrefixFrom(a, a.BitLen()), netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return netns.Do(p.Netns, func() error {
		l, err := up("eth0")
		if err != nil {
			return err
		}
		p.Inner = uint32(l.Attrs().Index)
		for _, a := range p.Addresses() {
			if err := address(l, a); err != nil {
				return err
			}
			if err := route(l, netip.PrefixFrom(unspecified(a), 0), gatewayOf(a)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Addresses are the pod's, IPv4 first.
func (p *Pod) Addresses() []netip.Addr {
	if p.IPv6.IsValid() {
		return []netip.Addr{p.IPv4, p.IPv6}
	}
	return []netip.Addr{p.IPv4}
}

func gatewayOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return gateway4
	}
	return gateway6
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// address gives an interface an address that is its own alone.
func address(l netlink.Link, a netip.Addr) error {
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := netlink.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", a, l.Attrs().Name, err)
	}
	return nil
}

// route sends a prefix out of an interface, to a gateway on its link if there
// is one.
func route(l netlink.Link, to netip.Prefix, gateway netip.Addr) error {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Scope: netlink.SCOPE_LINK}
	if gateway.IsValid() {
		r.Scope, r.Gw, r.Flags = netlink.SCOPE_UNIVERSE, gateway.AsSlice(), int(netlink.FLAG_ONLINK)
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s on %s: %w", to, l.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
