package kube

import (
	"context"
	"time"
)

// rollOutServers replaces every server, twice, under a thousand new connections a
// second from both nodes: none is refused, because an endpoint that ends is taken
// out before it stops to listen, as the API says. How many there really were is
// in the output: a busy machine may not have the time for all.
func (m *mesh) rollOutServers() {
	m.shop(100, 0)
	const rate = 520 // of each client
	var clients []*client
	for _, n := range m.Nodes() {
		clients = append(clients, m.dial("rollout-"+n.Name(), n.Name(), "{}", port(m.addresses("web")[0], 80), rate))
	}
	for range 2 {
		m.kubectl("rollout", "restart", "-n", "shop", "deployment/v1")
		m.rolledOut("shop", "deployment/v1")
	}
	pause(context.WithoutCancel(m.t.Context()), 4*time.Second) // the last of the old ones end
	sum := 0.0
	for _, c := range clients {
		r := c.stop()
		m.whole("rollout of the servers, "+c.name, r, enough(r, rate))
		sum += r.Rate()
	}
	m.t.Logf("rollout of the servers: %.0f new connections a second", sum)
}
