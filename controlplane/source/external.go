package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/api/v1alpha1"
	"heddle.io/heddle/controlplane/model"
)

// Bounds of an ExternalService, those of its CRD.
const (
	maxExternalAddresses = 16
	maxExternalPorts     = 64
	maxExternalEndpoints = 256
)

func convertExternal(in *v1alpha1.ExternalService) (*object, error) {
	var c checks
	for _, list := range []struct {
		field   string
		n, most int
	}{
		{"spec.addresses", len(in.Spec.Addresses), maxExternalAddresses},
		{"spec.ports", len(in.Spec.Ports), maxExternalPorts},
		{"spec.endpoints", len(in.Spec.Endpoints), maxExternalEndpoints},
	} {
		if list.n < 1 || list.n > list.most {
			c.add(list.field, "there are %d, 1 to %d are possible", list.n, list.most)
		}
	}
	if len(c) > 0 {
		return nil, c.err()
	}
	out := &model.External{Key: key(in.Namespace, in.Name), Generation: in.Generation, Created: in.CreationTimestamp.Time, Ports: c.externalPorts(in.Spec.Ports)}
	seen := make(map[netip.Addr]bool)
	for i, text := range in.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		a, ok := c.address(field, string(text))
		if ok && seen[a] {
			c.add(field, "%s is there twice", a)
		}
		seen[a] = true
		out.Addresses = append(out.Addresses, a)
	}
	for i, e := range in.Spec.Endpoints {
		field := fmt.Sprintf("spec.endpoints[%d]", i)
		a, _ := c.address(field+".address", string(e.Address))
		endpoint := model.ExternalEndpoint{Address: a}
		if e.Port != nil {
			endpoint.Port, _ = c.port(field+".port", *e.Port)
		}
		out.Endpoints = append(out.Endpoints, endpoint)
	}
	return c.result(&object{External: out})
}

func (c *checks) externalPorts(list []v1alpha1.ExternalPort) []model.ServicePort {
	type number struct {
		port     uint16
		protocol model.Protocol
	}
	names, numbers := make(map[string]bool), make(map[number]bool)
	var out []model.ServicePort
	for i, p := range list {
		field := fmt.Sprintf("spec.ports[%d]", i)
		port := model.ServicePort{Name: p.Name, Protocol: c.protocol(field+".protocol", corev1.Protocol(p.Protocol))}
		if port.Protocol == model.SCTP {
			c.add(field+".protocol", "SCTP cannot be used, use TCP or UDP")
		}
		if p.Name == "" {
			c.add(field+".name", "it is required")
		}
		c.name(field+".name", p.Name, validation.IsDNS1123Label)
		port.Port, _ = c.port(field+".port", p.Port)
		if port.TargetPort = port.Port; p.TargetPort != nil {
			port.TargetPort, _ = c.port(field+".targetPort", *p.TargetPort)
		}
		if names[p.Name] {
			c.add(field+".name", "%s is taken by another port", printable(p.Name))
		}
		if n := (number{port.Port, port.Protocol}); numbers[n] {
			c.add(field+".port", "%d/%s is taken by another port", port.Port, port.Protocol)
		} else {
			numbers[n] = true
		}
		names[p.Name] = true
		out = append(out, port)
	}
	return out
}
