package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What a TCPRoute means, seen by the clients. Without a route, port 80 of web is
// answered by the backends' port 8001 and port 81 by 8010.
func TestRoutes(t *testing.T) {
	m := up(t, "shop.yaml", "routes.yaml")
	m.waitServices("shop/web")
	for _, tc := range []struct {
		name   string
		routes string
		want   map[string]string // "pod port" -> ports that answer, or the error
		status []string
	}{{
		name: "no route",
		want: map[string]string{"shop/client 80": "8001", "shop/client 81": "8010", "desk/client 80": "8001"},
	}, {
		name:   "parent with a port",
		routes: route("r", "shop", "", "web, port: 80", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8002", "shop/client 81": "8010"},
	}, {
		name:   "parent without a port: all of them",
		routes: route("r", "shop", "", "web", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8002", "shop/client 81": "8002", "shop/client2 80": "8002"},
	}, {
		name:   "parent with a section name",
		routes: route("r", "shop", "", "web, sectionName: alt", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8001", "shop/client 81": "8002"},
	}, {
		name:   "weight 0 gets nothing",
		routes: route("r", "shop", "", "web, port: 80", "backend, port: 8002, weight: 0", "backend, port: 8003, weight: 7"),
		want:   map[string]string{"shop/client 80": "8003"},
	}, {
		name:   "the default weight is 1",
		routes: route("r", "shop", "", "web, port: 80", "backend, port: 8002", "backend, port: 8003"),
		want:   map[string]string{"shop/client 80": "8002 8003"},
	}, {
		name:   "the share of a missing service is refused, not moved",
		routes: route("r", "shop", "", "web, port: 80", "nowhere, port: 80", "backend, port: 8003"),
		want:   map[string]string{"shop/client 80": "8003 connect ECONNREFUSED", "shop/client 81": "8010"},
		status: []string{"TCPRoute shop/r", "BackendNotFound", "nowhere"},
	}, {
		name:   "the share of a missing port is refused",
		routes: route("r", "shop", "", "web, port: 80", "backend, port: 9999"),
		want:   map[string]string{"shop/client 80": "connect ECONNREFUSED"},
		status: []string{"TCPRoute shop/r", "BackendNotFound", "9999"},
	}, {
		name:   "a parent that does not exist",
		routes: route("r", "shop", "", "nowhere, port: 80", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8001"},
		status: []string{"TCPRoute shop/r", "NoMatchingParent"},
	}, {
		name:   "a parent port that does not exist",
		routes: route("r", "shop", "", "web, port: 82", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8001", "shop/client 81": "8010"},
		status: []string{"TCPRoute shop/r", "NoMatchingParent"},
	}, {
		name:   "a headless parent",
		routes: route("r", "shop", "", "headless, port: 80", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8001"},
		status: []string{"TCPRoute shop/r", "headless"},
	}, {
		name: "the oldest of two routes wins, port by port",
		routes: route("a", "shop", "2026-02-01T00:00:00Z", "web", "backend, port: 8002") +
			route("b", "shop", "2026-01-01T00:00:00Z", "web, port: 80", "backend, port: 8003"),
		want:   map[string]string{"shop/client 80": "8003", "shop/client 81": "8002"},
		status: []string{"TCPRoute shop/a", "Conflicted"},
	}, {
		name: "of two of one age the name decides",
		routes: route("b", "shop", "2026-01-01T00:00:00Z", "web, port: 80", "backend, port: 8003") +
			route("a", "shop", "2026-01-01T00:00:00Z", "web, port: 80", "backend, port: 8002"),
		want:   map[string]string{"shop/client 80": "8002"},
		status: []string{"TCPRoute shop/b", "Conflicted"},
	}, {
		name:   "a consumer route is for its own namespace",
		routes: route("c", "desk", "", "web, namespace: shop, port: 80", "backend, namespace: shop, port: 8004"),
		want:   map[string]string{"desk/client 80": "8004", "desk/client 81": "8010", "shop/client 80": "8001"},
	}, {
		name: "a consumer route wins over the producer's",
		routes: route("c", "desk", "", "web, namespace: shop, port: 80", "backend, namespace: shop, port: 8004") +
			route("p", "shop", "2026-01-01T00:00:00Z", "web, port: 80", "backend, port: 8005"),
		want: map[string]string{"desk/client 80": "8004", "shop/client 80": "8005", "shop/client2 80": "8005"},
	}, {
		name:   "a backend is its endpoints, whatever its own route says",
		routes: route("r", "shop", "", "web, port: 80", "backend, port: 8002") + route("q", "shop", "", "backend", "backend, port: 8006"),
		want:   map[string]string{"shop/client 80": "8002"},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			m.file("routes.yaml", tc.routes)
			for _, key := range slices.Sorted(maps.Keys(tc.want)) {
				where, port, _ := strings.Cut(key, " ")
				m.eventually(key, func() error {
					if got := m.answers(where, "10.96.1.2:"+port); got != tc.want[key] {
						return fmt.Errorf("answered by %q, want %q", got, tc.want[key])
					}
					return nil
				})
			}
			m.waitStatus(tc.status...)
		})
	}
}

// answers says in words who answered 60 connections: ports and errors, sorted.
func (m *mesh) answers(where, to string) string {
	m.t.Helper()
	res := m.peer(where, "dial", "-n=60", to)
	seen := map[string]bool{}
	for name := range res.By {
		_, port, _ := strings.Cut(name, ":")
		seen[port] = true
	}
	for err := range res.Errors {
		seen[err] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

// route is a TCPRoute. parent and backends are the inside of a YAML map, after
// "name: ".
func route(name, namespace, created, parent string, backends ...string) string {
	if created != "" {
		created = `, creationTimestamp: "` + created + `"`
	}
	text := fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: %s, namespace: %s%s}
spec:
  parentRefs:
  - {group: "", kind: Service, name: %s}
  rules:
  - backendRefs:
`, name, namespace, created, parent)
	for _, b := range backends {
		text += "    - {name: " + b + "}\n"
	}
	return text
}
