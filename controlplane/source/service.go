package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/controlplane/model"
)

// maxServicePorts is what nodes accept of one Service.
const maxServicePorts = 1024

// Session affinity, in seconds.
const (
	defaultAffinity = 10800
	maxAffinity     = 86400
)

func convertService(in *corev1.Service) (*object, error) {
	var c checks
	out := &model.Service{
		Key:             key(in.Namespace, in.Name),
		Created:         in.CreationTimestamp.Time,
		Kind:            c.serviceKind(&in.Spec),
		Selector:        in.Spec.Selector,
		PublishNotReady: in.Spec.PublishNotReadyAddresses,
		Ports:           c.servicePorts(in.Spec.Ports),
		AffinitySeconds: c.affinity(&in.Spec),
		Locality:        c.locality(&in.Spec),
	}
	if out.Kind == model.ClusterIP {
		out.Addresses = c.clusterIPs(&in.Spec)
		if len(out.Ports) == 0 && len(c) == 0 {
			c.add("spec.ports", "at least one port is required")
		}
	}
	out.Ingress = ingress(in, out)
	out.IPv4, out.IPv6 = c.families(&in.Spec, out.Addresses)
	return c.result(&object{Service: out})
}

func (c *checks) serviceKind(spec *corev1.ServiceSpec) model.ServiceKind {
	switch spec.Type {
	case corev1.ServiceTypeExternalName:
		return model.ExternalName
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if spec.ClusterIP == corev1.ClusterIPNone {
			return model.Headless
		}
		return model.ClusterIP
	}
	c.add("spec.type", "%s is not a type of Service", printable(string(spec.Type)))
	return model.ClusterIP
}

func (c *checks) clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	texts := spec.ClusterIPs
	switch {
	case len(texts) == 0 && spec.ClusterIP != "":
		texts = []string{spec.ClusterIP}
	case len(texts) > 0 && spec.ClusterIP != "" && spec.ClusterIP != texts[0]:
		c.add("spec.clusterIPs[0]", "%s is not spec.clusterIP, %s", printable(texts[0]), printable(spec.ClusterIP))
	}
	return c.onePerFamily("spec.clusterIPs", texts)
}

// families tells which addresses of pods are endpoints: what ipFamilies says,
// else those of the cluster IPs, else all.
func (c *checks) families(spec *corev1.ServiceSpec, addresses []netip.Addr) (v4, v6 bool) {
	for i, f := range spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			v4 = true
		case corev1.IPv6Protocol:
			v6 = true
		default:
			c.add(fmt.Sprintf("spec.ipFamilies[%d]", i), "%s is not a family, use IPv4 or IPv6", printable(string(f)))
		}
	}
	for _, a := range addresses {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	if !v4 && !v6 {
		return true, true
	}
	return v4, v6
}

func (c *checks) servicePorts(list []corev1.ServicePort) []model.ServicePort {
	if len(list) > maxServicePorts {
		c.add("spec.ports", "there are %d, the limit is %d", len(list), maxServicePorts)
		return nil
	}
	type number struct {
		port     int32
		protocol model.Protocol
	}
	var out []model.ServicePort
	names, numbers := make(map[string]bool), make(map[number]bool)
	for i, p := range list {
		field := fmt.Sprintf("spec.ports[%d]", i)
		port := c.servicePort(field, p)
		if p.Name == "" && len(list) > 1 {
			c.add(field+".name", "with several ports each needs a name")
		}
		if p.Name != "" && names[p.Name] {
			c.add(field+".name", "%s is taken by another port", printable(p.Name))
		}
		if n := (number{p.Port, port.Protocol}); numbers[n] {
			c.add(field+".port", "%d/%s is taken by another port", p.Port, port.Protocol)
		}
		names[p.Name] = true
		numbers[number{p.Port, port.Protocol}] = true
		out = append(out, port)
	}
	return out
}

func (c *checks) servicePort(field string, p corev1.ServicePort) model.ServicePort {
	out := model.ServicePort{Name: p.Name, Protocol: c.protocol(field+".protocol", p.Protocol)}
	c.name(field+".name", p.Name, validation.IsDNS1123Label)
	out.Port, _ = c.port(field+".port", p.Port)
	switch {
	case p.TargetPort.Type == intstr.String:
		out.TargetName = p.TargetPort.StrVal
		if problems := validation.IsValidPortName(out.TargetName); len(problems) > 0 {
			c.add(field+".targetPort", "%s: %s", printable(out.TargetName), problems[0])
		}
	case p.TargetPort.IntVal != 0:
		out.TargetPort, _ = c.port(field+".targetPort", p.TargetPort.IntVal)
	default:
		out.TargetPort = out.Port
	}
	return out
}

func (c *checks) affinity(spec *corev1.ServiceSpec) uint32 {
	switch spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
		return 0
	case corev1.ServiceAffinityClientIP:
	default:
		c.add("spec.sessionAffinity", "%s is not known, use ClientIP or None", printable(string(spec.SessionAffinity)))
		return 0
	}
	config := spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
		return defaultAffinity
	}
	seconds := *config.ClientIP.TimeoutSeconds
	if seconds < 1 || seconds > maxAffinity {
		c.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d, use 1 to %d", seconds, maxAffinity)
		return 0
	}
	return uint32(seconds)
}

// locality: internalTrafficPolicy Local is a restriction and goes before
// trafficDistribution, which is a wish.
func (c *checks) locality(spec *corev1.ServiceSpec) model.Locality {
	local := false
	if policy := spec.InternalTrafficPolicy; policy != nil {
		switch *policy {
		case corev1.ServiceInternalTrafficPolicyCluster:
		case corev1.ServiceInternalTrafficPolicyLocal:
			local = true
		default:
			c.add("spec.internalTrafficPolicy", "%s is not known, use Cluster or Local", printable(string(*policy)))
		}
	}
	wish := model.Anywhere
	if distribution := spec.TrafficDistribution; distribution != nil {
		switch *distribution {
		case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
			wish = model.PreferSameZone
		case corev1.ServiceTrafficDistributionPreferSameNode:
			wish = model.PreferSameNode
		default:
			c.add("spec.trafficDistribution", "%s is not known, use PreferSameZone, PreferSameNode or PreferClose", printable(*distribution))
		}
	}
	if local {
		return model.OnlySameNode
	}
	return wish
}
