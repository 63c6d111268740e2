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
	c := m.dial("rollout", "node1", "{}", port(m.addresses("web")[0], 80), 1000)
	for range 2 {
		m.kubectl("rollout", "restart", "-n", "shop", "deployment/v1")
		m.rolledOut("shop", "deployment/v1")
	}
	pause(context.WithoutCancel(m.t.Context()), 4*time.Second) // the last of the old ones end
	r := c.stop()
	m.whole("rollout of the servers", r, enough(r, 1000))
}
