package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/e2e/peer"
)

// shop makes the servers of shop.yaml and a route with these weights, and waits
// until they are in force, and nothing of what was before is: every scenario
// starts like this, whatever the one before has left.
func (m *mesh) shop(v1, v2 int) {
	m.t.Helper()
	text, err := os.ReadFile("shop.yaml")
	m.must(err)
	m.apply(strings.ReplaceAll(string(text), "PEER", peerImage))
	m.rolledOut("shop", "deployment/v1")
	m.rolledOut("shop", "deployment/v2")
	m.route(v1, v2)
	m.settled()
}

// route sets the weights, and waits for the status that says they are in force.
func (m *mesh) route(v1, v2 int) {
	m.t.Helper()
	m.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - backendRefs:
    - {name: v1, port: 80, weight: %d}
    - {name: v2, port: 80, weight: %d}
`, v1, v2))
	m.eventually("route shop/canary is programmed", func() error { return m.condition("tcproutes", "canary", "Programmed", "True") })
}

// condition checks a condition of the first parent of a route, for its present
// generation.
func (m *mesh) condition(kind, name, condition, want string) error {
	out, err := m.try("get", kind+".gateway.networking.k8s.io", "-n", "shop", name, "-o", "json")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var route struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Parents []struct {
				Conditions []struct {
					Type, Status, Reason, Message string
					ObservedGeneration            int64
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &route); err != nil {
		return err
	}
	for _, p := range route.Status.Parents {
		for _, c := range p.Conditions {
			if c.Type == condition && c.Status == want && c.ObservedGeneration == route.Metadata.Generation {
				return nil
			}
		}
	}
	return fmt.Errorf("generation %d: %+v", route.Metadata.Generation, route.Status.Parents)
}

// settled waits until each node has one ready server of each version, and every
// node knows the addresses of those, and no others.
func (m *mesh) settled() {
	m.t.Helper()
	for _, version := range []string{"v1", "v2"} {
		m.eventually("servers of "+version+" are on every node, and known there", func() error {
			servers, err := m.servers(version)
			if err != nil {
				return err
			}
			return m.known(version, servers)
		})
	}
}

// servers are the nodes of the ready servers of a version, by address: one of each
// node, or it is an error.
func (m *mesh) servers(version string) (map[netip.Addr]string, error) {
	out, err := m.try("get", "pods", "-n", "shop", "-l", "version="+version, "-o", "json")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var pods struct {
		Items []struct {
			Metadata struct{ Name, DeletionTimestamp string }
			Spec     struct{ NodeName string }
			Status   struct {
				PodIPs     []struct{ IP netip.Addr }
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &pods); err != nil {
		return nil, err
	}
	nodes := make(map[string]string) // the server of each
	found := make(map[netip.Addr]string)
	for _, p := range pods.Items {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c struct{ Type, Status string }) bool {
			return c.Type == "Ready" && c.Status == "True"
		})
		if p.Metadata.DeletionTimestamp != "" || !ready {
			continue
		}
		if other := nodes[p.Spec.NodeName]; other != "" {
			return nil, fmt.Errorf("%s and %s are both on %s", other, p.Metadata.Name, p.Spec.NodeName)
		}
		nodes[p.Spec.NodeName] = p.Metadata.Name
		for _, a := range p.Status.PodIPs {
			found[a.IP] = p.Spec.NodeName
		}
	}
	if len(nodes) != len(m.Nodes()) {
		return nil, fmt.Errorf("ready: %v", nodes)
	}
	return found, nil
}

// known checks that every node sends the connections of a service to servers of
// all nodes, and to these alone.
func (m *mesh) known(service string, servers map[netip.Addr]string) error {
	used, err := m.used("shop/" + service)
	if err != nil {
		return err
	}
	for node, endpoints := range used {
		reached := make(map[string]bool)
		for _, e := range endpoints {
			at, err := netip.ParseAddrPort(e.Address)
			if err != nil {
				return err
			}
			on, ok := servers[at.Addr()]
			if !ok {
				return fmt.Errorf("%s uses %s, which is none of %v", node, e.Address, servers)
			}
			reached[on] = true
		}
		if len(reached) != len(m.Nodes()) {
			return fmt.Errorf("%s uses those of %v, not of every node", node, reached)
		}
	}
	return nil
}

// used are the endpoints that each node sends the connections of a service to.
func (m *mesh) used(service string) (map[string][]admin.Endpoint, error) {
	out, err := m.ctl("describe", "service", service, "-o", "json")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var answers []struct {
		Node  string
		Items []admin.Service
	}
	if err := json.Unmarshal([]byte(out), &answers); err != nil {
		return nil, err
	}
	used := make(map[string][]admin.Endpoint)
	for _, a := range answers {
		for _, s := range a.Items {
			for _, b := range s.Backends {
				for _, e := range b.Endpoints {
					if e.Used {
						used[a.Node] = append(used[a.Node], e)
					}
				}
			}
		}
	}
	if len(used) != len(m.Nodes()) {
		return nil, fmt.Errorf("endpoints used: %v", used)
	}
	return used, nil
}

// platform waits until processes of a node, which the mesh leaves alone, are
// answered at an address by the platform's choice: kube-proxy takes its time for a
// new Service. It returns how many connections that took.
func (m *mesh) platform(node int, address, want string) int {
	m.t.Helper()
	made := 0
	m.eventually(fmt.Sprintf("%s leads from node%d to %s", address, node, want), func() error {
		out, err := m.Node(node).Exec(context.WithoutCancel(m.t.Context()), peerBinary, "dial", "-n=1", address)
		if err != nil {
			return err
		}
		var r peer.Result
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return err
		}
		made += r.Connections
		if r.By[want] != 1 {
			return errors.New(out)
		}
		return nil
	})
	return made
}
