package source

import (
	"fmt"
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/controlplane/model"
)

// Bounds of an EndpointSlice, those of Kubernetes.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 20_000
)

func convertSlice(in *discoveryv1.EndpointSlice) (*object, error) {
	var c checks
	switch in.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		c.add("addressType", "%s cannot be used, use IPv4 or IPv6", printable(string(in.AddressType)))
		return nil, c.err()
	}
	if len(in.Endpoints) > maxSliceEndpoints || len(in.Ports) > maxSlicePorts {
		c.add("endpoints", "%d endpoints and %d ports, the limits are %d and %d", len(in.Endpoints), len(in.Ports), maxSliceEndpoints, maxSlicePorts)
		return nil, c.err()
	}
	out := &model.Slice{
		Key:     key(in.Namespace, in.Name),
		Service: in.Labels[discoveryv1.LabelServiceName],
		Ports:   c.slicePorts(in.Ports),
	}
	for i, e := range in.Endpoints {
		if endpoint, ok := c.sliceEndpoint(fmt.Sprintf("endpoints[%d]", i), &e, in.AddressType); ok {
			out.Endpoints = append(out.Endpoints, endpoint)
		}
	}
	return c.result(&object{Slice: out})
}

// slicePorts leaves out ports without a number: they mean all ports, which a
// Service port cannot lead to.
func (c *checks) slicePorts(list []discoveryv1.EndpointPort) []model.NamedPort {
	var out []model.NamedPort
	for i, p := range list {
		field := fmt.Sprintf("ports[%d]", i)
		port := model.NamedPort{Protocol: model.TCP}
		if p.Name != nil {
			port.Name = *p.Name
			c.name(field+".name", port.Name, validation.IsDNS1123Label)
		}
		if p.Protocol != nil {
			port.Protocol = c.protocol(field+".protocol", *p.Protocol)
		}
		if p.Port == nil {
			continue
		}
		port.Port, _ = c.port(field+".port", *p.Port)
		out = append(out, port)
	}
	return out
}

func (c *checks) sliceEndpoint(field string, e *discoveryv1.Endpoint, family discoveryv1.AddressType) (model.SliceEndpoint, bool) {
	var out model.SliceEndpoint
	if len(e.Addresses) == 0 {
		c.add(field+".addresses", "at least one is required")
		return out, false
	}
	// The others are other names of the same thing, as in kube-proxy.
	var ok bool
	if out.Address, ok = c.address(field+".addresses[0]", e.Addresses[0]); !ok {
		return out, false
	}
	if addressType(out.Address) != family {
		c.add(field+".addresses[0]", "%s is not of addressType %s", out.Address, family)
		return out, false
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
		c.name(field+".nodeName", out.Node, validation.IsDNS1123Subdomain)
	}
	if e.Zone != nil {
		out.Zone = *e.Zone
		c.name(field+".zone", out.Zone, labelValue)
	}
	if ref := e.TargetRef; ref != nil && ref.Kind == podKind {
		c.name(field+".targetRef.name", ref.Name, validation.IsDNS1123Subdomain)
		c.name(field+".targetRef.namespace", ref.Namespace, validation.IsDNS1123Label)
		out.Workload = key(ref.Namespace, ref.Name).String()
	}
	out.Health = health(e.Conditions)
	return out, true
}

func addressType(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// health: unknown means ready, and serving means what ready means as long as
// nobody says otherwise.
func health(conditions discoveryv1.EndpointConditions) model.Health {
	is := func(condition *bool, unknown bool) bool {
		if condition == nil {
			return unknown
		}
		return *condition
	}
	ready := is(conditions.Ready, true)
	switch {
	case ready:
		return model.Ready
	case is(conditions.Terminating, false) && is(conditions.Serving, ready):
		return model.Draining
	}
	return model.Down
}
