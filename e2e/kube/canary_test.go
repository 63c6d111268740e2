package kube

import (
	"fmt"
	"math"
	"testing"

	"heddle.io/heddle/e2e/cluster"
)

// variants are the kinds of clusters that Heddle has to work in alike. The rest
// of the scenarios run in the first one.
var variants = []struct {
	name    string
	options cluster.Options
	install []string
}{
	{"nftables and cgroup2 alone", cluster.Options{DualStack: true}, nil},
	{"iptables and hybrid", cluster.Options{DualStack: true, Proxy: cluster.ProxyIPTables, Cgroup: cluster.CgroupHybrid}, nil},
	{"no kube-proxy", cluster.Options{DualStack: true, Proxy: cluster.ProxyNone}, []string{"--without-kube-proxy", "--api-server=" + cluster.ControlPlane + ":6443"}},
}

// TestVariants: a canary has the same shares in every kind of cluster.
func TestVariants(t *testing.T) {
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			m := up(t, v.options, v.install...)
			m.canary()
		})
	}
}

// canary moves a route from one version to the other. Clients on both nodes, and
// over both families, find exactly the shares that the route says.
func (m *mesh) canary() {
	m.t.Helper()
	m.shop(90, 10)
	for _, weights := range [][2]int{{90, 10}, {50, 50}, {0, 100}} {
		m.route(weights[0], weights[1])
		const n = 2000
		clients := make(map[string]*client)
		for i, address := range m.addresses("web") {
			for _, node := range []string{"node1", "node2"} {
				name := fmt.Sprintf("canary-%d-%s-%d", i, node, weights[1])
				clients[node+" to "+address] = m.create(name, node, "{}", "dial", fmt.Sprintf("-n=%d", n), "-workers=4", port(address, 80))
			}
		}
		for what, c := range clients {
			r := c.wait()
			c.remove()
			m.whole(fmt.Sprintf("%d/%d from %s", weights[0], weights[1], what), r, n)
			m.share(r.By["v2"], n, float64(weights[1])/100)
		}
	}
}

// share checks a count against its expectation: four standard deviations are
// exceeded once in sixteen thousand times.
func (m *mesh) share(got, n int, want float64) {
	m.t.Helper()
	sigma := math.Sqrt(float64(n) * want * (1 - want))
	if off := math.Abs(float64(got) - float64(n)*want); off > 4*sigma {
		m.t.Errorf("%d of %d connections went to v2, expected %.0f ± %.0f", got, n, float64(n)*want, 4*sigma)
	}
}
