package kube

import (
	"context"
	"time"
)

// rollOutServers replaces every server, twice, under many new connections: none
// is refused, because an endpoint that ends is taken out before it stops to
// listen, as the API says.
func (m *mesh) rollOutServers() {
	m.shop(100, 0)
	began := time.Now()
	c := m.dial("rollout", "node1", "{}", port(m.addresses("web")[0], 80), 1000)
	for range 2 {
		m.kubectl("rollout", "restart", "-n", "shop", "deployment/v1")
		m.kubectl("rollout", "status", "-n", "shop", "deployment/v1", "--timeout=90s")
	}
	pause(context.WithoutCancel(m.t.Context()), 4*time.Second) // the last of the old ones end
	seconds := int(time.Since(began).Seconds())
	m.whole("rollout of the servers", c.stop(), seconds*1000/3)
}
