package source

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"heddle.io/heddle/controlplane/model"
)

// ingress returns the addresses of a load balancer that mean the Service itself
// when a pod connects to them. kube-proxy takes such connections the short way,
// to the endpoints and not out to the load balancer, and so may Heddle: unless
// the load balancer wants to see them (ipMode Proxy), or kube-proxy has rules
// for them that are not those of the cluster IP: source ranges, and "Cluster"
// semantics where internalTrafficPolicy is Local. Those are left to it.
//
// They are in the status, which only a controller may write. spec.externalIPs,
// which anybody may who makes a Service, are never taken: with them one
// namespace would take other people's connections from another.
func ingress(in *corev1.Service, out *model.Service) []netip.Addr {
	if in.Spec.Type != corev1.ServiceTypeLoadBalancer || out.Kind != model.ClusterIP ||
		len(in.Spec.LoadBalancerSourceRanges) > 0 || out.Locality == model.OnlySameNode {
		return nil
	}
	var addresses []netip.Addr
	for _, i := range in.Status.LoadBalancer.Ingress {
		if i.IPMode != nil && *i.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		// What kube-proxy would not use is nothing to refuse a Service for.
		a, err := netip.ParseAddr(i.IP)
		ours := err == nil && a.IsGlobalUnicast() && a.Zone() == "" && !a.Is4In6()
		sameFamily := func(b netip.Addr) bool { return a.Is4() == b.Is4() }
		if ours && slices.ContainsFunc(out.Addresses, sameFamily) && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}
