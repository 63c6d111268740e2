package sandbox

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// clusterIPs hands out service addresses: what the API server does.
type clusterIPs struct {
	last int                   // number handed out last
	used map[netip.Addr]string // address -> owner
}

// newClusterIPs knows the addresses of the Services that exist.
func newClusterIPs(last int, services []*corev1.Service) *clusterIPs {
	c := &clusterIPs{last: last, used: map[netip.Addr]string{}}
	for _, svc := range services {
		for _, text := range svc.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil {
				c.used[a] = svc.Namespace + "/" + svc.Name
			}
		}
	}
	return c
}

// complete fills in what the API server would: defaults, families, addresses.
// before is the Service as it was; its addresses stay.
func (c *clusterIPs) complete(svc, before *corev1.Service) error {
	spec := &svc.Spec
	fill(&spec.Type, corev1.ServiceTypeClusterIP)
	fill(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if err := completePorts(svc); err != nil {
		return err
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if before != nil && spec.ClusterIP == "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIP, spec.ClusterIPs = before.Spec.ClusterIP, before.Spec.ClusterIPs
	}
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	if err := completeFamilies(svc); err != nil {
		return err
	}
	if spec.ClusterIP == corev1.ClusterIPNone {
		spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	if spec.InternalTrafficPolicy == nil {
		spec.InternalTrafficPolicy = pointer(corev1.ServiceInternalTrafficPolicyCluster)
	}
	return c.address(svc)
}

func completePorts(svc *corev1.Service) error {
	spec := &svc.Spec
	headless := spec.ClusterIP == corev1.ClusterIPNone || spec.Type == corev1.ServiceTypeExternalName
	if len(spec.Ports) == 0 && !headless {
		return fmt.Errorf("Service %s/%s: spec.ports is required", svc.Namespace, svc.Name)
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		fill(&p.Protocol, corev1.ProtocolTCP)
		if p.Port < 1 || p.Port > 65535 {
			return fmt.Errorf("Service %s/%s: port %d is not between 1 and 65535", svc.Namespace, svc.Name, p.Port)
		}
		if p.Name == "" && len(spec.Ports) > 1 {
			return fmt.Errorf("Service %s/%s: with several ports each needs a name", svc.Namespace, svc.Name)
		}
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	return nil
}

// completeFamilies decides ipFamilies and ipFamilyPolicy from what is given.
func completeFamilies(svc *corev1.Service) error {
	spec := &svc.Spec
	for i, text := range spec.ClusterIPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			if text == corev1.ClusterIPNone && i == 0 {
				break
			}
			return fmt.Errorf("Service %s/%s: clusterIP %q is no address", svc.Namespace, svc.Name, text)
		}
		if len(spec.IPFamilies) == i {
			spec.IPFamilies = append(spec.IPFamilies, familyOf(a))
		}
		if spec.IPFamilies[i] != familyOf(a) {
			return fmt.Errorf("Service %s/%s: clusterIP %s is not of family %s", svc.Namespace, svc.Name, text, spec.IPFamilies[i])
		}
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		a, err := netip.ParseAddr(spec.ClusterIP)
		if err != nil {
			return fmt.Errorf("Service %s/%s: clusterIP %q is no address", svc.Namespace, svc.Name, spec.ClusterIP)
		}
		spec.ClusterIPs = []string{spec.ClusterIP}
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = []corev1.IPFamily{familyOf(a)}
		}
	}
	policy := corev1.IPFamilyPolicySingleStack
	if len(spec.IPFamilies) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = &policy
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	switch {
	case *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack && len(spec.IPFamilies) > 1:
		return fmt.Errorf("Service %s/%s: ipFamilyPolicy SingleStack with two ipFamilies", svc.Namespace, svc.Name)
	case *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(spec.IPFamilies) == 1:
		other := corev1.IPv6Protocol
		if spec.IPFamilies[0] == other {
			other = corev1.IPv4Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, other)
	}
	return nil
}

// address keeps the addresses that are given and hands out the missing ones.
func (c *clusterIPs) address(svc *corev1.Service) error {
	owner := svc.Namespace + "/" + svc.Name
	spec := &svc.Spec
	for _, text := range spec.ClusterIPs {
		a := netip.MustParseAddr(text) // completeFamilies has parsed it
		if by := c.used[a]; by != "" && by != owner {
			return fmt.Errorf("Service %s: clusterIP %s already belongs to Service %s", owner, a, by)
		}
		c.used[a] = owner
	}
	if len(spec.ClusterIPs) < len(spec.IPFamilies) {
		number, ok := nextFree(c.last, firstServiceNumber, lastServiceNumber, func(n int) bool {
			return c.used[serviceAddress(n, false)] != "" || c.used[serviceAddress(n, true)] != ""
		})
		if !ok {
			return fmt.Errorf("Service %s: every address of %s is taken", owner, serviceNet4)
		}
		c.last = number
		for _, family := range spec.IPFamilies[len(spec.ClusterIPs):] {
			a := serviceAddress(number, family == corev1.IPv6Protocol)
			c.used[a] = owner
			spec.ClusterIPs = append(spec.ClusterIPs, a.String())
		}
	}
	spec.ClusterIPs = slices.Clone(spec.ClusterIPs)
	spec.ClusterIP = spec.ClusterIPs[0]
	return nil
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// fill sets a field that was left empty.
func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func pointer[T any](v T) *T { return &v }
