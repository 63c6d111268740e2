package source

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"heddle.io/heddle/controlplane/translate"
)

const (
	serviceText  = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {%s}}`
	podText      = `{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop}, %s}`
	sliceText    = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, namespace: shop}, %s}`
	tlsText      = `{apiVersion: gateway.networking.k8s.io/v1, kind: TLSRoute, metadata: {name: r, namespace: shop}, spec: {%s}}`
	grantText    = `{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: shop}, spec: {%s}}`
	policyText   = `{apiVersion: policy.heddle.io/v1alpha1, kind: TrafficPolicy, metadata: {name: p, namespace: shop}, spec: {%s}}`
	externalText = `{apiVersion: policy.heddle.io/v1alpha1, kind: ExternalService, metadata: {name: e, namespace: shop}, spec: {%s}}`
	routeText    = `{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{group: "", kind: Service, name: web}], %s}}`
)

func TestInvalidObjects(t *testing.T) {
	backend := func(more string) string {
		return fmt.Sprintf(routeText, "rules: [{backendRefs: [{name: web, port: 80"+more+"}]}]")
	}
	for _, c := range []struct{ text, says string }{
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1"), "spec.ports: at least one port is required"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 0}]"), "spec.ports[0].port: 0 is not a port"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 65536}]"), "65536 is not a port"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 81}]"), "with several ports each needs a name"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: a, port: 81}]"), "spec.ports[1].name: a is taken"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 80}]"), "80/tcp is taken"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 80, protocol: ICMP}]"), "ICMP is not a protocol"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 70000}]"), "targetPort: 70000 is not a port"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: a_b}]"), "targetPort: a_b:"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: 80, name: HTTP}]"), "spec.ports[0].name: HTTP:"},
		{fmt.Sprintf(serviceText, "clusterIP: '::ffff:10.96.0.1', ports: [{port: 80}]"), "write 10.96.0.1"},
		{fmt.Sprintf(serviceText, "clusterIP: 127.0.0.1, ports: [{port: 80}]"), "127.0.0.1 is not an address of a pod or a Service"},
		{fmt.Sprintf(serviceText, "clusterIP: 255.255.255.255, ports: [{port: 80}]"), "is not an address of a pod or a Service"},
		{fmt.Sprintf(serviceText, "clusterIP: fe80::1%eth0, ports: [{port: 80}]"), "has a zone"},
		{fmt.Sprintf(serviceText, "clusterIPs: [10.96.0.1, 10.96.0.2], ports: [{port: 80}]"), "are of the same family"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2], ports: [{port: 80}]"), "10.96.0.2 is not spec.clusterIP, 10.96.0.1"},
		{fmt.Sprintf(serviceText, "type: Magic, ports: [{port: 80}]"), "Magic is not a type of Service"},
		{fmt.Sprintf(serviceText, "ipFamilies: [IPv5], ports: [{port: 80}]"), "IPv5 is not a family"},
		{fmt.Sprintf(serviceText, "sessionAffinity: Cookie, ports: [{port: 80}]"), "Cookie is not known"},
		{fmt.Sprintf(serviceText, "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, ports: [{port: 80}]"), "86401, use 1 to 86400"},
		{fmt.Sprintf(serviceText, "internalTrafficPolicy: Node, ports: [{port: 80}]"), "Node is not known"},
		{fmt.Sprintf(serviceText, "trafficDistribution: Random, ports: [{port: 80}]"), "Random is not known"},
		{fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, ports: [{port: eighty}]"), "cannot unmarshal string"},
		{fmt.Sprintf(serviceText, "clusterIp: 10.96.0.1, ports: [{port: 80}]"), `unknown field "spec.clusterIp"`},
		{strings.Replace(fmt.Sprintf(serviceText, "ports: [{port: 80}]"), "name: web", "name: web.x", 1), "metadata.name: web.x:"},
		{strings.Replace(fmt.Sprintf(serviceText, "ports: [{port: 80}]"), "namespace: shop", "namespace: shop/x", 1), "metadata.namespace:"},

		{fmt.Sprintf(podText, `spec: {containers: []}, status: {podIP: "10.0.0.1 "}`), "is not an IP address"},
		{fmt.Sprintf(podText, "spec: {containers: []}, status: {podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}"), "are of the same family"},
		{fmt.Sprintf(podText, "spec: {containers: [{name: c, ports: [{containerPort: -1}]}]}"), "container c, ports[0].containerPort: -1 is not a port"},
		{fmt.Sprintf(podText, "spec: {containers: [], nodeName: 'a b'}"), "spec.nodeName:"},
		{strings.Replace(fmt.Sprintf(podText, "spec: {containers: []}"), "name: p", `name: p, uid: "a\nb"`, 1), "metadata.uid:"},
		{"{apiVersion: v1, kind: Node, metadata: {name: node1, labels: {topology.kubernetes.io/zone: 'a b'}}}", "metadata.labels[topology.kubernetes.io/zone]:"},

		{fmt.Sprintf(sliceText, "addressType: FQDN, endpoints: []"), "FQDN cannot be used"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, endpoints: [{addresses: ['fd00::1']}]"), "fd00::1 is not of addressType IPv4"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, endpoints: [{addresses: []}]"), "at least one is required"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, endpoints: [{addresses: [10.0.0.300]}]"), "endpoints[0].addresses[0]: 10.0.0.300 is not an IP address"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, ports: [{port: 0}], endpoints: []"), "ports[0].port: 0"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, endpoints: [{addresses: [10.0.0.1], zone: 'x/y'}]"), "endpoints[0].zone:"},
		{fmt.Sprintf(sliceText, "addressType: IPv4, endpoints: ["+strings.Repeat("{addresses: [10.0.0.1]}, ", 1001)+"]"), "1001 endpoints"},

		{fmt.Sprintf(routeText, "rules: []"), "spec.rules: there are 0"},
		{fmt.Sprintf(routeText, "rules: [{backendRefs: []}]"), "spec.rules[0].backendRefs: there are 0"},
		{fmt.Sprintf(routeText, "rules: [{backendRefs: ["+strings.Repeat("{name: web, port: 80}, ", 17)+"]}]"), "there are 17, 1 to 16 are possible"},
		{fmt.Sprintf(routeText, "rules: [{backendRefs: [{name: web, port: 80, weight: 0}, {name: web, port: 81, weight: 0}]}]"), "all weights are 0"},
		{backend(", weight: -1"), "weight: -1, use 0 to 1000000"},
		{backend(", weight: 1000001"), "use 0 to 1000000"},
		{backend(", weight: 1.5"), "cannot unmarshal number 1.5"},
		{backend(", kind: 'A B'"), "backendRefs[0].kind:"},
		{backend(", kind: " + strings.Repeat("K", 64)), "backendRefs[0].kind: it has 64 bytes, the limit is 63"},
		{backend(", namespace: '../x'"), "backendRefs[0].namespace:"},
		{strings.Replace(backend(""), "port: 80", "port: 65536", 1), "65536 is not a port"},
		{strings.Replace(backend(""), "gateway.networking.k8s.io/v1,", "gateway.networking.k8s.io/v1beta1,", 1), "is not used by Heddle"},
		{"{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {name: r}}", "is not used by Heddle; Namespace, Node, Pod, Service, EndpointSlice, TCPRoute, TLSRoute, HTTPRoute,"},

		{fmt.Sprintf(tlsText, "hostnames: ['a b'], rules: [{backendRefs: [{name: web, port: 443}]}]"), "spec.hostnames[0]:"},
		{fmt.Sprintf(tlsText, "rules: []"), "spec.rules: there are 0"},
		{fmt.Sprintf(grantText, "from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: '../x'}], to: [{group: '', kind: Service}]"), "spec.from[0].namespace:"},
		{"{apiVersion: policy.heddle.io/v1alpha1, kind: MeshConfig, metadata: {name: mine}}", "metadata.name: there is one MeshConfig"},
		{"{apiVersion: policy.heddle.io/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {podStart: {whenAgentDown: Run}}}", "Run is not known, use Wait or Drop"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}]"), "set at least one of"},
		{fmt.Sprintf(policyText, "targetRefs: [], maxConnections: 1"), "spec.targetRefs: there are 0"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: apps, kind: Deployment, name: web}], maxConnections: 1"), "spec.targetRefs[0]: a TrafficPolicy targets Services"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}, {group: '', kind: Service, name: web}], maxConnections: 1"), "targeted twice"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], maxConnections: 0"), "spec.maxConnections: 0, use 1 to 1000000"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], connectTimeout: soon"), "spec.connectTimeout: soon is not a duration"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], connectTimeout: 6m"), "spec.connectTimeout: 6m0s, use 10ms to 5m0s"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], locality: Near"), "spec.locality: Near is not known"},
		{fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], outlierDetection: {maxEjectionPercent: 101}"), "spec.outlierDetection.maxEjectionPercent: 101, use 0 to 100"},
		{fmt.Sprintf(externalText, "addresses: [127.0.0.1], ports: [{name: a, port: 80}], endpoints: [{address: 192.0.2.9}]"), "spec.addresses[0]: 127.0.0.1 is not an address"},
		{fmt.Sprintf(externalText, "addresses: [192.0.2.1, 192.0.2.1], ports: [{name: a, port: 80}], endpoints: [{address: 192.0.2.9}]"), "spec.addresses[1]: 192.0.2.1 is there twice"},
		{fmt.Sprintf(externalText, "addresses: [192.0.2.1], ports: [{name: a, port: 80}, {name: b, port: 80}], endpoints: [{address: 192.0.2.9}]"), "spec.ports[1].port: 80/tcp is taken"},
		{fmt.Sprintf(externalText, "addresses: [192.0.2.1], ports: [{name: a, port: 80}], endpoints: []"), "spec.endpoints: there are 0"},
		{"{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}", "is not used by Heddle"},
	} {
		documents, err := decode([]byte(c.text), nil)
		if err != nil || len(documents) != 1 {
			t.Errorf("%s\n  is taken for a broken file: %v", c.text, err)
			continue
		}
		d := documents[0]
		if d.object != nil || d.err == nil || !strings.Contains(d.err.Error(), c.says) {
			t.Errorf("%.300s\n  error: %v\n  should say: %s", c.text, d.err, c.says)
		}
	}
}

func TestAllViolationsAreReported(t *testing.T) {
	documents, err := decode([]byte(fmt.Sprintf(serviceText, "clusterIP: here, sessionAffinity: some, ports: [{port: 0, protocol: IP}]")), nil)
	check(t, err)
	for _, field := range []string{"spec.clusterIPs[0]", "spec.sessionAffinity", "spec.ports[0].port", "spec.ports[0].protocol"} {
		if !strings.Contains(documents[0].err.Error(), field) {
			t.Errorf("%s is not in: %v", field, documents[0].err)
		}
	}
}

func TestSplit(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"# only\n\n---\n# comments\n":          "",
		"a: 1":                                 "1",
		"---\na: 1\n---\nb: 1\n":               "2 4",
		"a: 1\n--- # and\nb: 1\n...\nc: 1\n":   "1 2 5",
		"a: 1\r\n---\r\nb: 1\r\n":              "1 3",
		"a: |\n  ---\n  x\n---\n\n\n# c\nb: 1": "1 5",
		"--- {a: 1}\n---  \nb: 1":              "1 3",
		"a: ---\n----\n":                       "1",
	} {
		var lines []string
		for _, p := range split([]byte(text)) {
			lines = append(lines, fmt.Sprint(p.line))
		}
		if got := strings.Join(lines, " "); got != want {
			t.Errorf("%q: documents at lines %q, want %q", text, got, want)
		}
	}
}

func TestDefaultNamespace(t *testing.T) {
	documents, err := decode([]byte("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}"), nil)
	check(t, err)
	if got := documents[0].id.String(); got != "Pod default/p" || documents[0].object.id() != documents[0].id {
		t.Errorf("it is %s", got)
	}
}

// TestBillionLaughs: aliases that grow without bound are refused, and soon.
func TestBillionLaughs(t *testing.T) {
	var text strings.Builder
	text.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&text, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	if _, err := decode([]byte(text.String()), nil); err == nil || !strings.Contains(err.Error(), "aliasing") {
		t.Errorf("error: %v", err)
	}
}

// FuzzDecode: whatever a file holds, reading it ends, and what is accepted can be
// kept, put together, admitted and translated.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"", "---\n...\n", "a: b: c", "\x00", "{", "[]", "null", "- &a [*a]", "--- |\n  x",
		pod("p", "10.0.0.1") + "---\n" + service("web", "10.96.0.1", 80) + "---\n" + route("r", 1),
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}},null,1]}`,
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"List","items":[]}]}`,
		fmt.Sprintf(sliceText, "addressType: IPv4, ports: [{name: a, port: 1}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, name: p}}]"),
		fmt.Sprintf(serviceText, "clusterIP: 10.96.0.1, selector: {app: a}, ports: [{port: 80, targetPort: http}]"),
		fmt.Sprintf(podText, "spec: {nodeName: n, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}"),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		documents, err := decode(data, nil)
		if err != nil {
			return
		}
		for _, d := range documents {
			if d.object == nil {
				if d.err == nil || d.reason == "" {
					t.Errorf("%s is refused without a reason", d.id)
				}
				continue
			}
			if d.object.id() != d.id {
				t.Errorf("%s became %s", d.id, d.object.id())
			}
			text, err := json.Marshal(d.object)
			if err != nil {
				t.Fatalf("%s cannot be kept: %v", d.id, err)
			}
			var back object
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatalf("%s was kept and cannot be read: %v", d.id, err)
			}
			again, err := json.Marshal(&back)
			if err != nil || !reflect.DeepEqual(text, again) {
				t.Errorf("%s was\n%s\nand came back as\n%s", d.id, text, again)
			}
		}
		granted, _ := admit([]*file{{name: "f", documents: documents}}, nil)
		translate.Build(snapshot(granted, nil))
	})
}
