package cluster

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const bridge = "cluster0"

// A network is the control plane's network namespace with a bridge that every
// node is joined to. Each node routes the pods of the others to their nodes'
// addresses: no overlay, no NAT, and no way out of the namespaces.
type network struct {
	ns    *os.File
	link  *netlink.Handle // in ns
	nodes int
	dual  bool
}

func newNetwork(nodes int, dual bool) (*network, error) {
	ns, err := newNetns()
	if err != nil {
		return nil, err
	}
	n := &network{ns: ns, nodes: nodes, dual: dual}
	if n.link, err = netlink.NewHandleAt(netns.NsHandle(ns.Fd())); err == nil {
		err = n.makeBridge()
	}
	if err == nil {
		err = inside(ns, func() error { return forward(dual) })
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("make the network of the control plane: %w", err)
	}
	return n, nil
}

func (n *network) close() {
	if n.link != nil {
		n.link.Close()
	}
	n.ns.Close()
}

func (n *network) makeBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = bridge, mac(0)
	if err := n.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	if err := setUp(n.link, "lo"); err != nil {
		return err
	}
	if err := address(n.link, bridge, ControlPlane+"/24"); err != nil {
		return err
	}
	if n.dual {
		if err := address(n.link, bridge, controlPlane6+"/64"); err != nil {
			return err
		}
	}
	if err := setUp(n.link, bridge); err != nil {
		return err
	}
	return n.routes(n.link, 0)
}

// join makes the network namespace of node i, as it is after a start: nothing
// in it but an interface to the others.
func (n *network) join(i int) (*os.File, error) {
	ns, err := newNetns()
	if err != nil {
		return nil, err
	}
	if err := n.connect(i, ns); err != nil {
		ns.Close()
		return nil, fmt.Errorf("connect node%d to the control plane: %w", i, err)
	}
	return ns, nil
}

func (n *network) connect(i int, ns *os.File) error {
	node, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		return err
	}
	defer node.Close()
	master, err := n.link.LinkByName(bridge)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = port(i), master.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0",
		PeerHardwareAddr: mac(i), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if err := n.link.LinkAdd(veth); err != nil {
		return err
	}
	if err := setUp(n.link, port(i)); err != nil {
		return err
	}
	if err := address(node, "eth0", nodeIP(i)+"/24"); err != nil {
		return err
	}
	if n.dual {
		if err := address(node, "eth0", nodeIP6(i)+"/64"); err != nil {
			return err
		}
	}
	for _, link := range []string{"lo", "eth0"} {
		if err := setUp(node, link); err != nil {
			return err
		}
	}
	if err := n.route(node, nil, ControlPlane, controlPlane6); err != nil {
		return err
	}
	return n.routes(node, i)
}

// leave takes the interface of node i out of the bridge, with its other end.
// The rest of the node's namespace ends with its last process.
func (n *network) leave(i int) error {
	link, err := n.link.LinkByName(port(i))
	if err != nil {
		return fmt.Errorf("disconnect node%d: %w", i, err)
	}
	return n.link.LinkDel(link)
}

func port(i int) string { return fmt.Sprintf("node%d", i) }

// routes leads to the pods of every node, from the namespace of node from, or
// of the control plane for 0.
func (n *network) routes(h *netlink.Handle, from int) error {
	for i := 1; i <= n.nodes; i++ {
		if i == from {
			continue
		}
		if err := n.route(h, []string{podCIDR(i), podCIDR6(i)}, nodeIP(i), nodeIP6(i)); err != nil {
			return err
		}
	}
	return nil
}

// route leads to a destination of both families, everywhere for nil.
func (n *network) route(h *netlink.Handle, to []string, via, via6 string) error {
	for family, gw := range []string{via, via6} {
		if family == 1 && !n.dual {
			continue
		}
		route := &netlink.Route{Gw: net.ParseIP(gw)}
		if to != nil {
			_, dst, err := net.ParseCIDR(to[family])
			if err != nil {
				return err
			}
			route.Dst = dst
		}
		if err := h.RouteAdd(route); err != nil {
			return fmt.Errorf("route to %v by %s: %w", route.Dst, gw, err)
		}
	}
	return nil
}

func address(h *netlink.Handle, link, cidr string) error {
	l, err := h.LinkByName(link)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD // usable at once: nobody else is here
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("give %s to %s: %w", cidr, link, err)
	}
	return nil
}

func setUp(h *netlink.Handle, link string) error {
	l, err := h.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find %s: %w", link, err)
	}
	return h.LinkSetUp(l)
}

// forward lets the network namespace of the calling thread pass packets on.
func forward(dual bool) error {
	files := []string{"/proc/sys/net/ipv4/ip_forward"}
	if dual {
		files = append(files, "/proc/sys/net/ipv6/conf/all/forwarding")
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("let packets pass: %w", err)
		}
	}
	return nil
}
