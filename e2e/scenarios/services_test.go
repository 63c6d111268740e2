package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What the fields of a Service mean, seen by clients on both nodes.
func TestServices(t *testing.T) {
	m := up(t, "shop.yaml", "services.yaml")
	m.waitServices("shop/web")
	m.waitKnown("shop/door", "shop/sliced")
	touch, err := m.Command(t.Context(), "shop", "unready", "touch", "unready") // its probe fails from now on
	m.must(err)
	m.must(touch.Run())
	const both = "backend-1 backend-2"
	for _, tc := range []struct {
		name, to   string
		flags      []string
		one, other string // who answers clients on node1 and on node2, or the error
	}{
		{"every endpoint of every node", "10.96.1.2:80", nil, both, both},
		{"named target port", "10.96.2.5:80", nil, "only-here", "only-here"},
		{"named target port, UDP", "10.96.2.5:53", []string{"-udp"}, "only-here", "only-here"},
		{"internalTrafficPolicy Local", "10.96.2.2:80", nil, "backend-1", "backend-2"},
		{"internalTrafficPolicy Local, none here", "10.96.2.3:80", nil, "only-here", "connect ECONNREFUSED"},
		{"PreferSameNode", "10.96.2.4:80", nil, "backend-1", "backend-2"},
		{"PreferSameNode, none here", "10.96.2.5:80", nil, "only-here", "only-here"},
		{"PreferSameZone", "10.96.2.6:80", nil, "backend-1", "backend-2"},
		{"not ready", "10.96.2.7:80", nil, "connect ECONNREFUSED", "connect ECONNREFUSED"},
		{"not ready, but published", "10.96.2.8:80", nil, "unready", "unready"},
		{"dual stack, IPv4", "10.96.2.9:80", nil, both, both},
		{"dual stack, IPv6", "[fd00:10:96::209]:80", nil, both, both},
		{"dual stack, IPv4 over an IPv6 socket", "10.96.2.9:80", []string{"-mapped"}, both, both},
		{"UDP, a socket each", "10.96.2.9:53", []string{"-udp"}, both, both},
		{"UDP, IPv6", "[fd00:10:96::209]:53", []string{"-udp"}, both, both},
		{"UDP, IPv4 over an IPv6 socket", "10.96.2.9:53", []string{"-udp", "-mapped"}, both, both},
		{"the cluster IP of a NodePort service", "10.96.2.10:80", nil, both, both},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			for where, want := range map[string]string{"shop/client": tc.one, "shop/client2": tc.other} {
				m.eventually(where, func() error {
					res := m.peer(where, append(append([]string{"dial", "-n=60"}, tc.flags...), tc.to)...)
					if got := who(res); got != want {
						return fmt.Errorf("answered by %q, want %q", got, want)
					}
					for peer := range res.Peers {
						if peer != tc.to {
							t.Errorf("%s: the peer's address is %s, want the service's, %s", where, peer, tc.to)
						}
					}
					return nil
				})
			}
		})
	}

	// One socket stays with one endpoint, and hears from the service.
	for _, tc := range []struct {
		name, to string
		flags    []string
	}{
		{"UDP, one socket", "10.96.2.9:53", nil},
		{"UDP, one socket, IPv6", "[fd00:10:96::209]:53", nil},
		{"UDP, one IPv6 socket for IPv4", "10.96.2.9:53", []string{"-mapped"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := m.in(t).reach("shop/client", 40, tc.to, append([]string{"-unconnected"}, tc.flags...)...)
			if len(res.By) != 1 || res.Peers[tc.to] != 40 {
				t.Errorf("40 datagrams were answered by %v from %v, want one server and %s", res.By, res.Peers, tc.to)
			}
		})
	}

	t.Run("sessionAffinity ClientIP", func(t *testing.T) {
		m := m.in(t)
		for _, where := range []string{"shop/client", "shop/client2"} {
			if res := m.reach(where, 40, "10.96.2.1:80"); len(res.By) != 1 {
				t.Errorf("%s: a service with affinity was answered by %v, want one server", where, res.By)
			}
			if res := m.reach(where, 40, "10.96.2.1:53", "-udp"); len(res.By) != 1 {
				t.Errorf("%s: a UDP service with affinity was answered by %v, want one server", where, res.By)
			}
		}
	})

	t.Run("left to the platform", func(t *testing.T) {
		m := m.in(t)
		for _, name := range []string{"shop/headless", "shop/elsewhere"} {
			if _, err := m.service("node1", name, 0); err == nil {
				t.Errorf("the kernel has %s, which has no cluster IP", name)
			}
		}
		for _, to := range []string{"192.0.2.10:80", "10.250.0.1:30080"} {
			m.waitCtl([]string{"why", "shop/client", to}, "not_service")
		}
	})

	t.Run("endpoints that shut down are used when no other is ready", func(t *testing.T) {
		m := m.in(t)
		for _, step := range []struct {
			one, other string // conditions
			want       string
		}{
			{"ready: true", "ready: true", both},
			{"ready: true", "ready: false, serving: true, terminating: true", "backend-1"},
			{"ready: false, serving: true, terminating: true", "ready: false, serving: true, terminating: true", both},
			{"ready: false, serving: false, terminating: true", "ready: false, serving: true, terminating: true", "backend-2"},
			{"ready: false", "ready: false, serving: false, terminating: true", "connect ECONNREFUSED"},
		} {
			m.file("sliced.yaml", fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sliced-1, namespace: shop, labels: {kubernetes.io/service-name: sliced}}
addressType: IPv4
ports: [{name: web, port: 8001, protocol: TCP}]
endpoints:
- {addresses: [%s], nodeName: node1, conditions: {%s}}
- {addresses: [%s], nodeName: node2, conditions: {%s}}
`, m.podIP("shop/backend-1", false), step.one, m.podIP("shop/backend-2", false), step.other))
			m.eventually(step.one+" and "+step.other, func() error {
				if got := who(m.peer("shop/client", "dial", "-n=60", "10.96.2.11:80")); got != step.want {
					return fmt.Errorf("answered by %q, want %q", got, step.want)
				}
				return nil
			})
		}
	})
}

// who says in words which pods answered, and what the errors were.
func who(res *result) string {
	seen := map[string]bool{}
	for name := range res.By {
		pod, _, _ := strings.Cut(name, ":")
		seen[pod] = true
	}
	for err := range res.Errors {
		seen[err] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}
