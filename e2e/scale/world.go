package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// The shape of the cluster. Every hundredth service has a route with weights.
const (
	perNamespace = 100 // services
	perFile      = 10  // services with their slices
	clusterNodes = 100 // that endpoints say they are on
	zones        = 3
	maxEndpoints = 1000    // of one slice, as in Kubernetes
	maxServices  = 50_000  // what the address ranges take
	maxTotal     = 400_000 // endpoints, likewise
)

// world is a cluster as files for the controller. Endpoints come in slices, as
// the control plane of Kubernetes writes them; their pods are not objects here.
type world struct {
	services  []service
	endpoints int
	weights   []int // of the first backend of each route, of 100
	fresh     int   // addresses given to endpoints that changes add
}

// service is one service with its endpoints.
type service struct {
	index     int
	endpoints []endpoint
}

// endpoint is one pod behind a service.
type endpoint struct {
	address netip.Addr
	serial  int // sets its node, zone and name
}

func newWorld(services, endpoints int) (*world, error) {
	switch {
	case services < 2*perFile || services > maxServices || services%perNamespace != 0:
		return nil, fmt.Errorf("%d services: take a multiple of %d, at most %d", services, perNamespace, maxServices)
	case endpoints < 2 || endpoints >= maxEndpoints || services*endpoints > maxTotal:
		return nil, fmt.Errorf("%d endpoints of each service: take 2 to %d, and at most %d together", endpoints, maxEndpoints-1, maxTotal)
	}
	w := &world{endpoints: endpoints, weights: make([]int, services/perNamespace)}
	for i := range services {
		s := service{index: i}
		for j := range endpoints {
			serial := i*endpoints + j
			s.endpoints = append(s.endpoints, endpoint{podAddress(1, serial), serial})
		}
		w.services = append(w.services, s)
	}
	for i := range w.weights {
		w.weights[i] = 90
	}
	return w, nil
}

// podAddress is the n-th address from 10.block.0.0 on, leaving out those that
// end in 0.
func podAddress(block byte, n int) netip.Addr {
	high := n / 255
	return netip.AddrFrom4([4]byte{10, block + byte(high>>8), byte(high), byte(n%255 + 1)})
}

func namespaceName(service int) string { return fmt.Sprintf("team-%03d", service/perNamespace) }
func serviceName(service int) string   { return fmt.Sprintf("service-%05d", service) }
func serviceFile(service int) string   { return fmt.Sprintf("services-%04d.yaml", service/perFile) }
func routeFile(route int) string       { return fmt.Sprintf("route-%03d.yaml", route) }

// files are all files of the cluster, by name.
func (w *world) files() map[string]string {
	all := map[string]string{"base.yaml": w.base()}
	for i := 0; i < len(w.services); i += perFile {
		all[serviceFile(i)] = w.file(i)
	}
	for i := range w.weights {
		all[routeFile(i)] = w.route(i)
	}
	return all
}

// base puts one pod of the mesh on node1, and none on node2.
func (w *world) base() string {
	var b strings.Builder
	b.WriteString(`apiVersion: v1
kind: Namespace
metadata: {name: client, labels: {heddle.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: client}
spec:
  nodeName: node1
  containers:
  - {name: main, image: none}
status:
  podIPs: [{ip: 10.250.0.1}]
`)
	return b.String()
}

// file is the services that share a file with this one.
func (w *world) file(of int) string {
	var b strings.Builder
	first := of - of%perFile
	for i := first; i < first+perFile; i++ {
		w.services[i].text(&b)
	}
	return b.String()
}

func (s *service) text(b *strings.Builder) {
	namespace, name := namespaceName(s.index), serviceName(s.index)
	fmt.Fprintf(b, `---
apiVersion: v1
kind: Service
metadata:
  name: %[2]s
  namespace: %[1]s
spec:
  clusterIP: 172.%[3]d.%[4]d.%[5]d
  ports:
  - name: http
    port: 80
    protocol: TCP
    targetPort: 8080
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %[2]s-abc12
  namespace: %[1]s
  labels:
    kubernetes.io/service-name: %[2]s
addressType: IPv4
ports:
- name: http
  port: 8080
  protocol: TCP
endpoints:
`, namespace, name, 16+s.index/255>>8, s.index/255&255, s.index%255+1)
	for _, e := range s.endpoints {
		fmt.Fprintf(b, `- addresses:
  - %s
  conditions:
    ready: true
  nodeName: worker-%03d
  zone: zone-%d
  targetRef:
    kind: Pod
    namespace: %s
    name: %s-6d8f9c7b5-%05d
`, e.address, e.serial%clusterNodes, e.serial%clusterNodes%zones, namespace, name, e.serial%100_000)
	}
}

// route sends a share of the first service of a namespace to the second.
func (w *world) route(n int) string {
	first := n * perNamespace
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata:
  name: canary
  namespace: %s
spec:
  parentRefs:
  - {group: "", kind: Service, name: %[2]s, port: 80}
  rules:
  - backendRefs:
    - {name: %[2]s, port: 80, weight: %[4]d}
    - {name: %[3]s, port: 80, weight: %[5]d}
`, namespaceName(first), serviceName(first), serviceName(first+1), w.weights[n], 100-w.weights[n])
}

// edit is one change: a file with new contents.
type edit struct {
	kind       string
	file, text string
}

// The kinds of changes.
const (
	added    = "endpoint added"
	removed  = "endpoint removed"
	replaced = "endpoint replaced"
	weighted = "weight changed"
)

var kinds = []string{added, replaced, removed, weighted}

// round makes one change of each kind, to services all over the cluster. Apart
// from the weights and one replaced endpoint, the cluster is then as before.
func (w *world) round(n int) []edit {
	i := (n*3571 + 17) % len(w.services)
	s := &w.services[i]
	change := func(kind string) edit { return edit{kind, serviceFile(i), w.file(i)} }
	var all []edit

	s.endpoints = append(s.endpoints, w.newEndpoint())
	all = append(all, change(added))
	s.endpoints[1] = w.newEndpoint()
	all = append(all, change(replaced))
	s.endpoints = s.endpoints[1:]
	all = append(all, change(removed))

	route := n % len(w.weights)
	w.weights[route] = (w.weights[route] + 7) % 100
	return append(all, edit{weighted, routeFile(route), w.route(route)})
}

func (w *world) newEndpoint() endpoint {
	w.fresh++
	return endpoint{podAddress(200, w.fresh), w.fresh}
}
