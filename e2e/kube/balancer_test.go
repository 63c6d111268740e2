package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/e2e/cluster"
)

// The addresses of the load balancers are the control plane's, which stands for
// the network outside.
const (
	balanced  = "198.51.100.1" // externalTrafficPolicy Cluster
	balanced6 = "2001:db8:51::1"
	local     = "198.51.100.2" // externalTrafficPolicy Local, with a pod on node2 alone
)

// loadBalancers reaches Services of type LoadBalancer by the addresses that
// their status names: from outside, where packets come to a node and are
// kube-proxy's, and from pods of the mesh, whose connections follow the route.
func (m *mesh) loadBalancers() {
	m.shop(50, 50)
	ctx := context.WithoutCancel(m.t.Context())
	m.apply(strings.ReplaceAll(balancerObjects, "PEER", peerImage))
	m.t.Cleanup(func() {
		_, _ = m.try("delete", "-n", "shop", "-l", "scenario=balancer", "--wait=false", "pods,services,tcproutes.gateway.networking.k8s.io")
	})
	m.ingress("balanced", fmt.Sprintf(`{"ip": %q}, {"ip": %q}`, balanced, balanced6))
	m.ingress("balanced-local", fmt.Sprintf(`{"ip": %q}`, local))
	m.await("condition=Ready", "pod/balanced-local")
	m.eventually("route shop/balanced is programmed", func() error { return m.condition("tcproutes", "balanced", "Programmed", "True") })
	m.eventually("route shop/balanced-local is programmed", func() error { return m.condition("tcproutes", "balanced-local", "Programmed", "True") })

	for service, address := range map[string]string{"balanced": balanced6, "balanced-local": local} {
		m.eventually(address+" is the address of shop/"+service+" on every node", func() error { return m.serves(service, address) })
	}
	m.fromOutside(ctx)
	m.platform(1, port(local, 80), "local")

	// In the cluster nothing leaves for the load balancer, and "Local" is not
	// applied: the API says so.
	outside := "{heddle.io/mesh: disabled}"
	var clients []*client
	wanted := []struct{ name, address, labels, answer string }{
		{"to-balanced", balanced, "{}", "v2"},
		{"to-balanced6", balanced6, "{}", "v2"},
		{"to-local", local, "{}", "v2"},
		{"platform-to-balanced", balanced, outside, "v1"},
		{"platform-to-balanced6", balanced6, outside, "v1"},
		{"platform-to-local", local, outside, "local"},
	}
	for _, w := range wanted {
		clients = append(clients, m.create(w.name, "node1", w.labels, "dial", "-n=50", port(w.address, 80)))
	}
	for i, w := range wanted {
		r := clients[i].wait()
		m.whole(w.name, r, 50)
		if r.By[w.answer] != 50 {
			m.t.Errorf("%s: answered by %v, want %s", w.name, r.By, w.answer)
		}
	}
	m.intoTheBalancer(ctx)
}

// serves checks that every node takes an address for a Service's.
func (m *mesh) serves(service, address string) error {
	out, err := m.ctl("describe", "service", "shop/"+service, "-o", "json")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var nodes []struct{ Items []admin.Service }
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		return err
	}
	count := 0
	for _, n := range nodes {
		if slices.ContainsFunc(n.Items, func(s admin.Service) bool { return slices.Contains(s.Addresses, address) }) {
			count++
		}
	}
	if count != len(m.Nodes()) {
		return fmt.Errorf("%d nodes do", count)
	}
	return nil
}

// fromOutside routes the addresses to a node, as a load balancer does that
// leaves them in the packets.
func (m *mesh) fromOutside(ctx context.Context) {
	m.t.Helper()
	for _, way := range []struct {
		address string
		node    *cluster.Node
		want    string
	}{
		{balanced, m.Node(1), "v1"}, {balanced, m.Node(2), "v1"},
		{balanced6, m.Node(1), "v1"}, {balanced6, m.Node(2), "v1"},
		{local, m.Node(2), "local"},
		{local, m.Node(1), ""}, // no pod there, so its packets are dropped
	} {
		via := way.node.IP()
		if strings.Contains(way.address, ":") {
			via = way.node.IP6()
		}
		_, err := m.Run(ctx, "ip", "route", "replace", way.address, "via", via)
		m.must(err)
		if way.want == "" {
			if _, err := m.Run(ctx, "timeout", "1", peerBinary, "dial", "-n=1", port(way.address, 80)); err == nil {
				m.t.Errorf("%s by %s answers, which has no pod", way.address, way.node.Name())
			}
		} else {
			m.eventually(way.address+" by "+way.node.Name(), func() error {
				out, err := m.Run(ctx, peerBinary, "dial", "-n=50", port(way.address, 80))
				if err != nil || !strings.Contains(out, `"`+way.want+`":50`) {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
		}
		_, err = m.Run(ctx, "ip", "route", "delete", way.address)
		m.must(err)
	}
}

// intoTheBalancer says that the load balancer has to see connections of the
// cluster, too: then it gets those of the mesh.
func (m *mesh) intoTheBalancer(ctx context.Context) {
	m.t.Helper()
	_, err := m.Run(ctx, "ip", "address", "add", balanced+"/32", "dev", "lo")
	m.must(err)
	ctx, stop := context.WithCancel(ctx)
	balancer := exec.CommandContext(ctx, peerBinary, "serve", "-name=balancer", "-ports=80")
	m.must(m.StartCommand(balancer))
	defer func() {
		stop()
		_ = balancer.Wait() // it was killed
		_, err := m.Run(context.WithoutCancel(ctx), "ip", "address", "delete", balanced+"/32", "dev", "lo")
		m.must(err)
	}()
	m.ingress("balanced", fmt.Sprintf(`{"ip": %q, "ipMode": "Proxy"}`, balanced))
	m.eventually("connections of the mesh reach the load balancer", func() error {
		c := m.create("balanced-proxy", "node1", "{}", "dial", "-n=50", port(balanced, 80))
		r := c.wait()
		c.remove()
		m.await("delete", "pod/balanced-proxy")
		if r.Failed > 0 || r.By["balancer"] != 50 {
			return fmt.Errorf("answered by %v, %d failed: %v", r.By, r.Failed, r.Errors)
		}
		return nil
	})
}

// ingress writes the status of a Service as the controller of a cloud does.
func (m *mesh) ingress(service, list string) {
	m.t.Helper()
	m.kubectl("patch", "service", "-n", "shop", service, "--subresource=status", "--type=merge",
		"-p", `{"status": {"loadBalancer": {"ingress": [`+list+`]}}}`)
}

const balancerObjects = `
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: shop, labels: {scenario: balancer}}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web, version: v1}
  ports: [{name: web, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: balanced-local, namespace: shop, labels: {scenario: balancer}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: balanced-local}
  ports: [{name: web, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: balanced-local, namespace: shop, labels: {scenario: balancer, app: balanced-local}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: PEER
    imagePullPolicy: Never
    command: [/peer, serve, -name=local, -ports=8080]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: balanced, namespace: shop, labels: {scenario: balancer}}
spec:
  parentRefs: [{group: "", kind: Service, name: balanced, port: 80}]
  rules:
  - backendRefs: [{name: v2, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: balanced-local, namespace: shop, labels: {scenario: balancer}}
spec:
  parentRefs: [{group: "", kind: Service, name: balanced-local, port: 80}]
  rules:
  - backendRefs: [{name: v2, port: 80}]
`
