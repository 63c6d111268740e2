package kube

import (
	"fmt"
	"path/filepath"
	"strings"
)

// badInput applies what people write: the API server refuses it and names the
// field, or the status says what is wrong. Never only a log.
func (m *mesh) badInput() {
	m.shop(50, 50)
	m.examples()
	policy := func(spec string) string {
		return "apiVersion: policy.heddle.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: bad, namespace: shop}\nspec: " + spec
	}
	for name, c := range map[string]struct{ yaml, field string }{
		"locality":     {policy(`{targetRefs: [{group: "", kind: Service, name: web}], locality: Somewhere}`), "spec.locality"},
		"no target":    {policy(`{targetRefs: [], locality: Any}`), "spec.targetRefs"},
		"kind":         {policy(`{targetRefs: [{group: "", kind: Pod, name: web}], locality: Any}`), "spec.targetRefs"},
		"timeout":      {policy(`{targetRefs: [{group: "", kind: Service, name: web}], connectTimeout: soon}`), "spec.connectTimeout"},
		"connections":  {policy(`{targetRefs: [{group: "", kind: Service, name: web}], maxConnections: 0}`), "spec.maxConnections"},
		"unknown":      {policy(`{targetRefs: [{group: "", kind: Service, name: web}], localitee: Any}`), "localitee"},
		"mesh name":    {"apiVersion: policy.heddle.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: other}\nspec: {}", "default"},
		"agent down":   {"apiVersion: policy.heddle.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {podStart: {whenAgentDown: Pray}}", "spec.podStart.whenAgentDown"},
		"address":      {"apiVersion: policy.heddle.io/v1alpha1\nkind: ExternalService\nmetadata: {name: bad, namespace: shop}\nspec: {addresses: [nowhere], ports: [{name: a, port: 80}], endpoints: [{address: 192.0.2.1}]}", "spec.addresses[0]"},
		"port":         {"apiVersion: policy.heddle.io/v1alpha1\nkind: ExternalService\nmetadata: {name: bad, namespace: shop}\nspec: {addresses: [192.0.2.9], ports: [{name: a, port: 70000}], endpoints: [{address: 192.0.2.1}]}", "spec.ports[0].port"},
		"route weight": {route("bad", "{name: v1, port: 80, weight: -1}"), "weight"},
	} {
		if out, err := m.tryApply(c.yaml); err == nil || !strings.Contains(out+err.Error(), c.field) {
			m.t.Errorf("%s: it must be refused for %s, but: %v, %s", name, c.field, err, out)
		}
	}

	// What only the whole cluster shows is in the status.
	m.apply(route("bad", "{name: nobody, port: 80}"))
	defer func() { _, _ = m.try("delete", "tcproutes.gateway.networking.k8s.io", "-n", "shop", "bad") }()
	m.eventually("a route to nobody says so", func() error { return m.condition("tcproutes", "bad", "ResolvedRefs", "False") })

	m.newerEnum()
}

// examples are those of the documentation: a real API server takes every field.
func (m *mesh) examples() {
	m.t.Helper()
	for _, file := range []string{"api/examples/policy.yaml", "install/examples/canary.yaml"} {
		path, err := filepath.Abs("../../" + file)
		if err != nil {
			m.t.Fatalf("%v", err)
		}
		if out, err := m.try("apply", "--dry-run=server", "--validate=strict", "-f", path); err != nil {
			m.t.Errorf("%s: %v, %s", file, err, out)
		}
	}
}

func route(name, backend string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: %s, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: v2, port: 80}]
  rules: [{backendRefs: [%s]}]
`, name, backend)
}

// newerEnum gives the CRD a value that this controller does not know, as a newer
// version would: the state before stays in force, and the status says why.
func (m *mesh) newerEnum() {
	policy := func(locality string) string {
		return `
apiVersion: policy.heddle.io/v1alpha1
kind: TrafficPolicy
metadata: {name: near, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: v1}], locality: ` + locality + `}`
	}
	accepted := func(want string) error {
		out, err := m.try("get", "trafficpolicies", "-n", "shop", "near", "-o",
			`jsonpath={.status.ancestors[0].conditions[?(@.type=="Accepted")].status}{.metadata.generation}{.status.ancestors[0].conditions[?(@.type=="Accepted")].observedGeneration}`)
		if err != nil || out != want {
			return fmt.Errorf("status, generation and observed generation are %q (%v), want %s", out, err, want)
		}
		return nil
	}
	m.apply(policy("PreferSameNode"))
	defer func() { _, _ = m.try("delete", "trafficpolicies", "-n", "shop", "near") }()
	m.eventually("the policy is accepted", func() error { return accepted("True11") })
	m.eventually("each node uses its own endpoints", func() error { return m.local("shop/v1") })
	crd := "trafficpolicies.policy.heddle.io"
	m.kubectl("patch", "crd", crd, "--type=json", "-p",
		`[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/locality/enum/-","value":"PreferSameRack"}]`)
	m.eventually("the newer value can be written", func() error {
		out, err := m.tryApply(policy("PreferSameRack"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	m.eventually("the status refuses the newer value", func() error { return accepted("False22") })
	if err := m.local("shop/v1"); err != nil {
		m.t.Errorf("the locality before is no longer in force: %v", err)
	}
}

// local checks that each node sends the connections of a service to its own
// endpoints alone.
func (m *mesh) local(service string) error {
	used, err := m.used(service)
	if err != nil {
		return err
	}
	for node, endpoints := range used {
		for _, e := range endpoints {
			if e.Node != node {
				return fmt.Errorf("%s uses %s of %s", node, e.Address, e.Node)
			}
		}
	}
	return nil
}
