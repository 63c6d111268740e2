package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// A rule is a service as kube-proxy has it: an address, a port and where they lead.
type rule struct {
	name      string
	address   netip.AddrPort
	endpoints []netip.AddrPort
}

// fillers is how many services stand in the maps besides those that are measured.
const fillers = 300

// fillerRules are services that nobody dials, with two endpoints each.
func fillerRules() []rule {
	out := make([]rule, fillers)
	for i := range out {
		high, low := byte(i>>8), byte(i)
		out[i] = rule{
			name:    fmt.Sprintf("filler-%d", i),
			address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 100 + high, low}), 80),
			endpoints: []netip.AddrPort{
				netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 100 + high, low}), 8080),
				netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 110 + high, low}), 8080),
			},
		}
	}
	return out
}

// kubeProxyRules is a ruleset in the form that kube-proxy's nftables mode gives
// it: verdict maps by address and port, a chain for each service and for each
// endpoint, and a mark for what has to be masqueraded. The drop of what conntrack
// calls invalid is from its iptables mode.
func kubeProxyRules(services []rule) string {
	var chains, elements, addresses strings.Builder
	for _, s := range services {
		fmt.Fprintf(&elements, "\t\t\t%s . tcp . %d : goto service-%s,\n", s.address.Addr(), s.address.Port(), s.name)
		fmt.Fprintf(&addresses, "\t\t\t%s,\n", s.address.Addr())
		fmt.Fprintf(&chains, "\tchain service-%s {\n", s.name)
		fmt.Fprintf(&chains, "\t\tip daddr %s tcp dport %d ip saddr != 10.244.0.0/16 jump mark-for-masquerade\n", s.address.Addr(), s.address.Port())
		fmt.Fprintf(&chains, "\t\tnumgen random mod %d vmap {", len(s.endpoints))
		for i := range s.endpoints {
			fmt.Fprintf(&chains, " %d : goto endpoint-%s-%d,", i, s.name, i)
		}
		chains.WriteString(" }\n\t}\n")
	}
	var endpoints strings.Builder
	for _, s := range services {
		for i, e := range s.endpoints {
			fmt.Fprintf(&endpoints, "\tchain endpoint-%s-%d {\n\t\tip saddr %s jump mark-for-masquerade\n\t\tmeta l4proto tcp dnat to %s\n\t}\n",
				s.name, i, e.Addr(), e)
		}
	}
	return fmt.Sprintf(rulesFrame, endpoints.String()+chains.String(), addresses.String(), elements.String())
}

// The chains that packets enter by, and their order, are kube-proxy's.
const rulesFrame = `table ip kube-proxy {
	chain mark-for-masquerade {
		meta mark set meta mark or 0x4000
	}
	chain masquerading {
		meta mark and 0x4000 == 0 return
		meta mark set meta mark xor 0x4000
		masquerade fully-random
	}
	chain reject-chain {
		reject
	}
%s
	set cluster-ips {
		type ipv4_addr
		elements = {
%s		}
	}
	map no-endpoint-services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.255.1 . tcp . 80 : goto reject-chain }
	}
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = {
%s		}
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
	}
	chain service-endpoints-check {
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain cluster-ips-check {
		ip daddr @cluster-ips reject
	}
	chain filter-input {
		type filter hook input priority -110; policy accept;
		ct state new jump service-endpoints-check
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state invalid drop
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}
	chain filter-output {
		type filter hook output priority -110; policy accept;
		ct state new jump service-endpoints-check
	}
	chain filter-output-post-dnat {
		type filter hook output priority -90; policy accept;
		ct state new jump cluster-ips-check
	}
	chain nat-prerouting {
		type nat hook prerouting priority -100; policy accept;
		jump services
	}
	chain nat-output {
		type nat hook output priority -100; policy accept;
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority 100; policy accept;
		jump masquerading
	}
}
`
