package scenarios

import (
	"testing"
)

// A service without endpoints refuses at connect(), on both families, TCP and
// UDP, and everybody who asks is told why.
func TestRefusal(t *testing.T) {
	m := up(t, "shop.yaml", "refusal.yaml")
	m.waitKnown("shop/empty")
	for _, tc := range []struct {
		name, to string
		flags    []string
		want     string
	}{
		{"tcp4", "10.96.1.9:80", nil, "connect ECONNREFUSED"},
		{"tcp6", "[fd00:10:96::109]:80", nil, "connect ECONNREFUSED"},
		{"mapped", "10.96.1.9:80", []string{"-mapped"}, "connect ECONNREFUSED"},
		{"udp4", "10.96.1.9:53", []string{"-udp"}, "connect ECONNREFUSED"},
		{"udp6", "[fd00:10:96::109]:53", []string{"-udp"}, "connect ECONNREFUSED"},
		{"unconnected", "10.96.1.9:53", []string{"-unconnected"}, "sendto ECONNREFUSED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			before := m.reasons("node1")["no_endpoint"]
			m.refused("shop/client", 10, tc.to, tc.want, tc.flags...)
			if got := m.reasons("node1")["no_endpoint"] - before; got != 10 {
				t.Errorf("no_endpoint was counted %d times for 10 refusals", got)
			}
		})
	}

	m.waitCtl([]string{"why", "shop/client", "10.96.1.9:80"}, "refuse", "no_endpoint", "shop/empty")
	m.waitStatus("no_endpoint")
	m.waitCtl([]string{"describe", "service", "shop/empty"}, "no_endpoint")

	// It recovers by itself when an endpoint appears.
	m.apply(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: empty-1, namespace: shop, labels: {kubernetes.io/service-name: empty}}
addressType: IPv4
ports: [{name: web, port: 8001, protocol: TCP}]
endpoints:
- addresses: [` + m.podIP("shop/backend-1", false) + `]
  nodeName: node1
`)
	m.eventually("the service has an endpoint", func() error {
		return m.peer("shop/client", "dial", "-n=1", "10.96.1.9:80").err()
	})
}
