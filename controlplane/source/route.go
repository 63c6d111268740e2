package source

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"heddle.io/heddle/controlplane/model"
)

// Bounds of a route, those of Gateway API.
const (
	maxParents   = 32
	maxRules     = 16
	maxBackends  = 16
	maxHostnames = 1024
	maxKind      = 63 // bytes
	maxWeight    = 1_000_000
)

// convertTCPRoute reads a TCPRoute of any version: they have the same fields.
func convertTCPRoute(in *gatewayv1.TCPRoute) (*object, error) {
	rules := make([][]gatewayv1.BackendRef, 0, len(in.Spec.Rules))
	for _, rule := range in.Spec.Rules {
		rules = append(rules, rule.BackendRefs)
	}
	return convertRoute(&model.Route{Kind: model.TCPRoute}, in.ObjectMeta, in.Spec.ParentRefs, rules)
}

// convertTLSRoute reads a TLSRoute of any version: they have the same fields.
func convertTLSRoute(in *gatewayv1.TLSRoute) (*object, error) {
	rules := make([][]gatewayv1.BackendRef, 0, len(in.Spec.Rules))
	for _, rule := range in.Spec.Rules {
		rules = append(rules, rule.BackendRefs)
	}
	out := &model.Route{Kind: model.TLSRoute}
	var c checks
	if n := len(in.Spec.Hostnames); n > maxHostnames {
		c.add("spec.hostnames", "there are %d, the limit is %d", n, maxHostnames)
		return nil, c.err()
	}
	for i, hostname := range in.Spec.Hostnames {
		c.name(fmt.Sprintf("spec.hostnames[%d]", i), strings.TrimPrefix(string(hostname), "*."), validation.IsDNS1123Subdomain)
		out.Hostnames = append(out.Hostnames, string(hostname))
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return convertRoute(out, in.ObjectMeta, in.Spec.ParentRefs, rules)
}

// convertRoute fills in what TCPRoutes and TLSRoutes have in common.
func convertRoute(out *model.Route, meta metav1.ObjectMeta, parents []gatewayv1.ParentReference, rules [][]gatewayv1.BackendRef) (*object, error) {
	var c checks
	out.Key, out.Created, out.Generation = key(meta.Namespace, meta.Name), meta.CreationTimestamp.Time, meta.Generation
	if n := len(rules); n < 1 || n > maxRules {
		c.add("spec.rules", "there are %d, 1 to %d are possible", n, maxRules)
	}
	if c.parents(out, parents); len(c) > 0 {
		return nil, c.err()
	}
	out.Rules = len(rules)
	for i, rule := range rules {
		backends := c.backends(fmt.Sprintf("spec.rules[%d].backendRefs", i), rule, out.Namespace)
		if i == 0 {
			out.Backends = backends
		}
	}
	return c.result(&object{Route: out})
}

// convertHTTPRoute and convertGRPCRoute read what it takes to tell the user that
// the route is not programmed.
func convertHTTPRoute(in *gatewayv1.HTTPRoute) (*object, error) {
	return convertParents(&model.Route{Kind: model.HTTPRoute, Rules: len(in.Spec.Rules)}, in.ObjectMeta, in.Spec.ParentRefs)
}

func convertGRPCRoute(in *gatewayv1.GRPCRoute) (*object, error) {
	return convertParents(&model.Route{Kind: model.GRPCRoute, Rules: len(in.Spec.Rules)}, in.ObjectMeta, in.Spec.ParentRefs)
}

func convertParents(out *model.Route, meta metav1.ObjectMeta, parents []gatewayv1.ParentReference) (*object, error) {
	var c checks
	out.Key, out.Created, out.Generation = key(meta.Namespace, meta.Name), meta.CreationTimestamp.Time, meta.Generation
	c.parents(out, parents)
	return c.result(&object{Route: out})
}

func (c *checks) parents(out *model.Route, refs []gatewayv1.ParentReference) {
	if n := len(refs); n > maxParents {
		c.add("spec.parentRefs", "there are %d, the limit is %d", n, maxParents)
		return
	}
	for i, ref := range refs {
		if isService(ref.Group, ref.Kind, gatewayv1.GroupName, "Gateway") {
			out.Parents = append(out.Parents, c.parent(fmt.Sprintf("spec.parentRefs[%d]", i), ref, out.Namespace))
		}
	}
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
