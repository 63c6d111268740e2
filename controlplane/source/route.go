package source

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"heddle.io/heddle/controlplane/model"
)

// Bounds of a TCPRoute, those of Gateway API.
const (
	maxParents  = 32
	maxRules    = 16
	maxBackends = 16
	maxKind     = 63 // bytes
	maxWeight   = 1_000_000
)

// readRoute reads a TCPRoute of v1 or v1alpha2: they have the same fields.
func readRoute(data []byte) (*object, error) {
	var in gatewayv1.TCPRoute
	if err := strict(data, &in); err != nil {
		return nil, err
	}
	var c checks
	if n := len(in.Spec.ParentRefs); n > maxParents {
		c.add("spec.parentRefs", "there are %d, the limit is %d", n, maxParents)
	}
	if n := len(in.Spec.Rules); n < 1 || n > maxRules {
		c.add("spec.rules", "there are %d, 1 to %d are possible", n, maxRules)
	}
	if len(c) > 0 {
		return nil, c.err()
	}
	out := &model.Route{
		Key:     key(in.Namespace, in.Name),
		Created: in.CreationTimestamp.Time,
		Rules:   len(in.Spec.Rules),
	}
	for i, ref := range in.Spec.ParentRefs {
		if isService(ref.Group, ref.Kind, gatewayv1.GroupName, "Gateway") {
			out.Parents = append(out.Parents, c.parent(fmt.Sprintf("spec.parentRefs[%d]", i), ref, out.Namespace))
		}
	}
	for i, rule := range in.Spec.Rules {
		backends := c.backends(fmt.Sprintf("spec.rules[%d].backendRefs", i), rule.BackendRefs, out.Namespace)
		if i == 0 {
			out.Backends = backends
		}
	}
	return c.result(&object{Route: out})
}

// isService reports whether a reference means a Service. Group and kind have
// different defaults in parents and in backends. The core group has two names.
func isService(group *gatewayv1.Group, kind *gatewayv1.Kind, defaultGroup, defaultKind string) bool {
	g, k := resolve(group, kind, defaultGroup, defaultKind)
	return (g == "" || g == "core") && k == serviceKind
}

func resolve(group *gatewayv1.Group, kind *gatewayv1.Kind, defaultGroup, defaultKind string) (string, string) {
	if group != nil {
		defaultGroup = string(*group)
	}
	if kind != nil {
		defaultKind = string(*kind)
	}
	return defaultGroup, defaultKind
}

func (c *checks) parent(field string, ref gatewayv1.ParentReference, namespace string) model.Parent {
	out := model.Parent{Service: c.reference(field, ref.Namespace, ref.Name, namespace)}
	if ref.Port != nil {
		out.Port, _ = c.port(field+".port", *ref.Port)
	}
	if ref.SectionName != nil {
		out.PortName = string(*ref.SectionName)
		c.name(field+".sectionName", out.PortName, validation.IsDNS1123Subdomain)
	}
	return out
}

// reference reads the name of a Service; its namespace is that of the route when
// it says none.
func (c *checks) reference(field string, namespace *gatewayv1.Namespace, name gatewayv1.ObjectName, own string) model.Key {
	if namespace != nil && *namespace != "" {
		own = string(*namespace)
	}
	if name == "" {
		c.add(field+".name", "it is required")
	}
	c.name(field+".namespace", own, validation.IsDNS1123Label)
	c.name(field+".name", string(name), validation.IsDNS1123Subdomain)
	return model.Key{Namespace: own, Name: string(name)}
}

func (c *checks) backends(field string, list []gatewayv1.BackendRef, namespace string) []model.Backend {
	if n := len(list); n < 1 || n > maxBackends {
		c.add(field, "there are %d, 1 to %d are possible", n, maxBackends)
		return nil
	}
	var out []model.Backend
	total := uint32(0)
	for i, ref := range list {
		backend := c.backend(fmt.Sprintf("%s[%d]", field, i), ref, namespace)
		total += backend.Weight
		out = append(out, backend)
	}
	if total == 0 {
		c.add(field, "all weights are 0, so that every connection would be refused: give one of them a weight, or delete the route")
	}
	return out
}

func (c *checks) backend(field string, ref gatewayv1.BackendRef, namespace string) model.Backend {
	out := model.Backend{Service: c.reference(field, ref.Namespace, ref.Name, namespace), Weight: 1}
	if !isService(ref.Group, ref.Kind, "", serviceKind) {
		group, kind := resolve(ref.Group, ref.Kind, "", serviceKind)
		c.name(field+".group", group, validation.IsDNS1123Subdomain)
		c.text(field+".kind", kind)
		if len(kind) > maxKind {
			c.add(field+".kind", "it has %d bytes, the limit is %d", len(kind), maxKind)
		}
		out.Kind = kind
		if group != "" {
			out.Kind = group + "/" + kind
		}
	}
	if ref.Port != nil {
		out.Port, _ = c.port(field+".port", *ref.Port)
	}
	if ref.Weight != nil {
		if *ref.Weight < 0 || *ref.Weight > maxWeight {
			c.add(field+".weight", "%d, use 0 to %d", *ref.Weight, maxWeight)
			return out
		}
		out.Weight = uint32(*ref.Weight)
	}
	return out
}
