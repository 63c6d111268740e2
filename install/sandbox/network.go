package sandbox

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// fabricName is the interface between the nodes, on either side.
const fabricName = "fabric0"

// link is one side of a veth pair, with a netlink handle in its namespace.
type link struct {
	*netlink.Handle
	netlink.Link
}

func (l *link) index() int { return l.Attrs().Index }

// veth makes a pair between two named namespaces and returns both sides, up.
// A pair that is there is kept.
func veth(ns1, name1, ns2, name2 string) (a, b *link, err error) {
	fd1, err := netns.GetFromPath(netnsPath(ns1))
	if err != nil {
		return nil, nil, fmt.Errorf("open network namespace %s: %w", ns1, err)
	}
	defer fd1.Close()
	fd2, err := netns.GetFromPath(netnsPath(ns2))
	if err != nil {
		return nil, nil, fmt.Errorf("open network namespace %s: %w", ns2, err)
	}
	defer fd2.Close()

	h1, err := netlink.NewHandleAt(fd1, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("open netlink in %s: %w", ns1, err)
	}
	h2, err := netlink.NewHandleAt(fd2, unix.NETLINK_ROUTE)
	if err != nil {
		h1.Close()
		return nil, nil, fmt.Errorf("open netlink in %s: %w", ns2, err)
	}
	defer func() {
		if err != nil {
			h1.Close()
			h2.Close()
		}
	}()
	err = h1.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name1},
		PeerName:  name2, PeerNamespace: netlink.NsFd(fd2),
	})
	if err != nil && err != unix.EEXIST {
		return nil, nil, fmt.Errorf("make interface %s in %s: %w", name1, ns1, err)
	}
	if a, err = linkUp(h1, name1); err != nil {
		return nil, nil, fmt.Errorf("interface %s in %s: %w", name1, ns1, err)
	}
	if b, err = linkUp(h2, name2); err != nil {
		return nil, nil, fmt.Errorf("interface %s in %s: %w", name2, ns2, err)
	}
	return a, b, nil
}

func linkUp(h *netlink.Handle, name string) (*link, error) {
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, err
	}
	return &link{h, l}, h.LinkSetUp(l)
}

// address gives the interface an address, without duplicate detection.
func (l *link) address(p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := l.AddrReplace(l.Link, a); err != nil {
		return fmt.Errorf("address %s on %s: %w", p, l.Attrs().Name, err)
	}
	return nil
}

// neighbour names the peer's hardware address for good, so that neither ARP
// nor neighbour discovery can fail or delay.
func (l *link) neighbour(ip netip.Addr, peer *link) error {
	err := l.NeighSet(&netlink.Neigh{
		LinkIndex: l.index(), State: netlink.NUD_PERMANENT,
		IP: ip.AsSlice(), HardwareAddr: peer.Attrs().HardwareAddr,
	})
	if err != nil {
		return fmt.Errorf("neighbour %s on %s: %w", ip, l.Attrs().Name, err)
	}
	return nil
}

// route sends a prefix (a zero one: everything) out of the interface, through
// a gateway if there is one. src is what the node's own packets carry.
func (l *link) route(to netip.Prefix, gateway, src netip.Addr) error {
	r := &netlink.Route{LinkIndex: l.index()}
	if to.IsValid() {
		r.Dst = ipNet(to)
	}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
		r.Flags = int(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	if err := l.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s on %s: %w", to, l.Attrs().Name, err)
	}
	return nil
}

// loopbackUp brings lo up in the namespace that the thread is in.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}

// connectNodes lays the fabric: one cable between the two nodes, and each
// other's pods behind it.
func (s *Sandbox) connectNodes() error {
	a, b := nodes[0], nodes[1]
	left, right, err := veth(s.nodeNetns(a.name), fabricName, s.nodeNetns(b.name), fabricName)
	if err != nil {
		return err
	}
	defer left.Close()
	defer right.Close()
	if err := wireNode(left, right, a, b); err != nil {
		return err
	}
	return wireNode(right, left, b, a)
}

// wireNode sets up one end of the fabric.
func wireNode(l, peer *link, n, other node) error {
	for i, own := range families(n.addresses()) {
		far := other.addresses()[i]
		bits := nodeNet4.Bits()
		if own.Is6() {
			bits = nodeNet6.Bits()
		}
		if err := l.address(netip.PrefixFrom(own, bits)); err != nil {
			return err
		}
		if err := l.neighbour(far, peer); err != nil {
			return err
		}
		if err := l.route(other.podNets()[i], far, own); err != nil {
			return err
		}
	}
	return nil
}

// connectPod gives a pod its interface, the way point-to-point CNI plugins do:
// the pod has its addresses as /32 and /128 and a link-local gateway, the node
// a route to each address.
func (s *Sandbox) connectPod(p *podState) error {
	n := findNode(p.Node)
	host, pod, err := veth(s.nodeNetns(p.Node), p.interfaceName(), s.podNetns(p.Namespace, p.Name), "eth0")
	if err != nil {
		return err
	}
	defer host.Close()
	defer pod.Close()
	for i, addr := range families(n.podAddresses(p.Number)) {
		gateway, gatewayNet := gateway4, netip.PrefixFrom(gateway4, 32)
		if addr.Is6() {
			gateway, gatewayNet = gateway6, netip.PrefixFrom(gateway6, 64)
		}
		own := netip.PrefixFrom(addr, addr.BitLen())
		steps := []func() error{
			func() error { return host.address(gatewayNet) },
			func() error { return host.neighbour(addr, pod) },
			func() error { return host.route(own, netip.Addr{}, n.addresses()[i]) },
			func() error { return pod.address(own) },
			func() error { return pod.neighbour(gateway, host) },
			func() error { return pod.route(netip.Prefix{}, gateway, netip.Addr{}) },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// families leaves out the IPv6 half on a kernel without.
func families(addrs []netip.Addr) []netip.Addr {
	if haveIPv6() {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), netip.Addr.Is6)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
