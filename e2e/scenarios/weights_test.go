package scenarios

import (
	"fmt"
	"math"
	"testing"
)

// Shares of new connections are those of the weights, for both nodes' kernels.
func TestWeights(t *testing.T) {
	m := up(t, "shop.yaml")
	for _, tc := range []struct {
		name    string
		weights []int
	}{
		{"90-10", []int{90, 10}},
		{"1-999", []int{1, 999}},
		{"33-33-34", []int{33, 33, 34}},
		{"ten", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			m.apply(splitRoute(tc.weights))
			m.waitWeights("shop/web", tc.weights)
			// Chance alone is that far away once in 16,000 shares, and there are
			// many: a wrong share is so twice in a row.
			for range 2 {
				if m.drawn(tc.weights) {
					return
				}
			}
			t.Error("a share was too far off twice in a row")
		})
	}
}

// drawn makes the connections and says whether every share is within four
// standard deviations of its weight.
func (m *mesh) drawn(weights []int) bool {
	m.t.Helper()
	res := m.peer("shop/client", "dial", "-workers=4", "-for=10m", fmt.Sprintf("-n=%d", *connections), "10.96.1.2:80")
	if res.Failed > 0 || res.Connections != *connections {
		m.t.Fatalf("%d of %d connections failed: %v", res.Failed, *connections, res.Errors)
	}
	return within4Sigma(m.t, weights, portsOf(res.By))
}

// splitRoute spreads the service web over the ports of the service backend.
func splitRoute(weights []int) string {
	route := `
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs:
  - {group: "", kind: Service, name: web, port: 80}
  rules:
  - backendRefs:
`
	for i, w := range weights {
		route += fmt.Sprintf("    - {name: backend, port: %d, weight: %d}\n", 8001+i, w)
	}
	return route
}

// portsOf sums "backend-1:8003" over the pods.
func portsOf(by map[string]int) []int {
	sums := make([]int, 10)
	for name, n := range by {
		var pod, port int
		if _, err := fmt.Sscanf(name, "backend-%d:%d", &pod, &port); err == nil && port > 8000 && port <= 8010 {
			sums[port-8001] += n
		}
	}
	return sums
}

// within4Sigma compares shares with a binomial draw and prints how far off each
// is. A share of weight 0 must be none, and nobody else may answer.
func within4Sigma(t *testing.T, weights, got []int) bool {
	t.Helper()
	total, n := 0, 0
	for _, w := range weights {
		total += w
	}
	for _, k := range got {
		n += k
	}
	within := true
	for i, k := range got {
		w := 0
		if i < len(weights) {
			w = weights[i]
		}
		p := float64(w) / float64(total)
		want, sigma := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
		if math.Abs(float64(k)-want) > 4*sigma {
			within = false
		}
		if w > 0 || k > 0 {
			t.Logf("backend %d: weight %d of %d, %d connections, expected %.0f, %.2f standard deviations off", i+1, w, total, k, want, (float64(k)-want)/max(sigma, 1))
		}
	}
	return within
}
