package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// maxIngress is how many addresses of load balancers a Service may have: nodes
// accept 16 addresses, and two are cluster IPs.
const maxIngress = 14

// ingress settles which Service has an address of a load balancer. Services may
// share one if their ports differ. A cluster IP belongs to its Service, and a
// place to the older of two: whoever loses keeps all its other addresses.
func (b *build) ingress() map[model.Key][]netip.Addr {
	var balanced []*model.Service
	for _, s := range b.Services {
		if len(s.Ingress) > 0 {
			balanced = append(balanced, s)
		}
	}
	if len(balanced) == 0 {
		return nil
	}
	slices.SortFunc(balanced, func(x, y *model.Service) int {
		return cmp.Or(x.Created.Compare(y.Created), x.Key.Compare(y.Key))
	})
	out := make(map[model.Key][]netip.Addr, len(balanced))
	ours, taken := b.clusterIPs(), make(map[place]*model.Service)
	for _, s := range balanced {
		for i, a := range s.Ingress {
			if i == maxIngress {
				b.problem("Service "+s.String(), "TooManyAddresses",
					fmt.Sprintf("its load balancer has %d addresses, nodes take %d; connections to the others are left to kube-proxy", len(s.Ingress), maxIngress))
				break
			}
			if detail := takeIngress(s, a, ours, taken); detail != "" {
				b.problem("Service "+s.String(), "AddressInUse",
					detail+"; connections to it are not this Service's: see what writes status.loadBalancer")
				continue
			}
			out[s.Key] = append(out[s.Key], a)
		}
	}
	return out
}

// takeIngress gives a Service its places at an address, or says who has one.
func takeIngress(s *model.Service, a netip.Addr, ours map[netip.Addr]model.Key, taken map[place]*model.Service) string {
	if holder, isOurs := ours[a]; isOurs {
		return fmt.Sprintf("%s of its load balancer is a cluster IP of Service %s", a, holder)
	}
	at := func(p model.ServicePort) place {
		return place{address: netip.AddrPortFrom(a, p.Port), protocol: p.Protocol}
	}
	for _, p := range s.Ports {
		if holder := taken[at(p)]; holder != nil {
			return fmt.Sprintf("%s/%s of its load balancer belongs to Service %s, which is older", at(p).address, p.Protocol, holder.Key)
		}
	}
	for _, p := range s.Ports {
		taken[at(p)] = s
	}
	return ""
}

// addressesOf are the cluster IPs of a Service and those of its load balancer.
func addressesOf(s *model.Service, ingress map[model.Key][]netip.Addr) []netip.Addr {
	if len(ingress[s.Key]) == 0 {
		return s.Addresses
	}
	return slices.Concat(s.Addresses, ingress[s.Key])
}

// sameAddresses tells whether a message has these addresses.
func sameAddresses(m *xds.Service, addresses []netip.Addr) bool {
	return slices.EqualFunc(m.Addresses, addresses, func(text []byte, a netip.Addr) bool {
		b, ok := netip.AddrFromSlice(text)
		return ok && a == b
	})
}
