package nettest

import (
	"net/netip"
	"testing"
)

// Gateways that a node shows to each of its pods.
const (
	gateway4 = "169.254.1.1"
	gateway6 = "fe80::1"
)

// Pod is a namespace joined to its node as a point-to-point CNI plugin does
// it: one address of each family, everything routed through the host side.
type Pod struct {
	*NS
	Node *NS
	Host string // interface on the node's side
	IPv4 netip.Addr
	IPv6 netip.Addr
}

// Pod creates a pod of the node n. host names the node's side of its
// interface; the pod's side is eth0.
func (n *NS) Pod(t testing.TB, host, ipv4, ipv6 string) *Pod {
	t.Helper()
	p := &Pod{NS: Netns(t), Node: n, Host: host, IPv4: netip.MustParseAddr(ipv4), IPv6: netip.MustParseAddr(ipv6)}
	Veth(t, n, host, p.NS, "eth0")

	n.Addr(t, host, gateway4+"/32", gateway6+"/64")
	n.Route(t, host, ipv4+"/32", "")
	n.Route(t, host, ipv6+"/128", "")

	p.Addr(t, "eth0", ipv4+"/32", ipv6+"/128")
	p.NS.Route(t, "eth0", "0.0.0.0/0", gateway4)
	p.NS.Route(t, "eth0", "::/0", gateway6)
	return p
}
