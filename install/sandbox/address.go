package sandbox

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// node is the fixed half of a node: its place in the address plan.
type node struct {
	name   string
	zone   string
	number int
}

// Two nodes in two zones, so that locality means something.
var nodes = []node{
	{name: "node1", zone: "zone-a", number: 1},
	{name: "node2", zone: "zone-b", number: 2},
}

func findNode(name string) *node {
	for i := range nodes {
		if nodes[i].name == name {
			return &nodes[i]
		}
	}
	return nil
}

// The address plan. All of it lives inside the sandbox's network namespaces,
// so it may equal what the machine, or another sandbox, uses.
var (
	nodeNet4    = netip.MustParsePrefix("10.250.0.0/24")
	nodeNet6    = netip.MustParsePrefix("fd00:10:250::/64")
	serviceNet4 = netip.MustParsePrefix("10.96.0.0/16")
	serviceNet6 = netip.MustParsePrefix("fd00:10:96::/112")
	// What pods have as their gateway. Link-local, the same in every pod.
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
)

// addresses are the node's own, on the fabric.
func (n node) addresses() []netip.Addr {
	return []netip.Addr{offset(nodeNet4, uint32(n.number)), offset(nodeNet6, uint32(n.number))}
}

// podNets are the prefixes of the node's pods.
func (n node) podNets() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n.number), 0}), 24),
		netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%x::", n.number)), 64),
	}
}

// A pod has one number on its node, and both its addresses carry it.
const firstPodNumber, lastPodNumber = 2, 254

func (n node) podAddresses(number int) []netip.Addr {
	nets := n.podNets()
	return []netip.Addr{offset(nets[0], uint32(number)), offset(nets[1], uint32(number))}
}

// Service numbers start above those that clusters reserve by habit
// (10.96.0.1, 10.96.0.10).
const firstServiceNumber, lastServiceNumber = 32, 65534

// serviceAddress is the cluster IP with a number, in a family.
func serviceAddress(number int, v6 bool) netip.Addr {
	if v6 {
		return offset(serviceNet6, uint32(number))
	}
	return offset(serviceNet4, uint32(number))
}

// offset is the n-th address of a prefix.
func offset(p netip.Prefix, n uint32) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	tail := b[len(b)-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+n)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// nextFree is the first free number after the last one handed out, going round
// in [low, high]. Numbers are not reused at once: the next pod must not get
// the address that clients still know as its predecessor's.
func nextFree(last, low, high int, used func(int) bool) (int, bool) {
	if last < low || last > high {
		last = high
	}
	for i, n := 0, last; i <= high-low; i++ {
		if n++; n > high {
			n = low
		}
		if !used(n) {
			return n, true
		}
	}
	return 0, false
}
