package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// services makes the Services that nodes translate: those with cluster IPs. A
// Service with routes of other namespaces has one more variant for each.
func (b *build) services() {
	attached, ingress := b.attach(), b.ingress()
	for _, key := range slices.SortedFunc(maps.Keys(b.Services), model.Key.Compare) {
		s := b.Services[key]
		if s.Kind != model.ClusterIP {
			continue
		}
		if len(s.Addresses) == 0 {
			b.problem("Service "+key.String(), "NoAddress", "it has no clusterIP and nobody here assigns one: set spec.clusterIP, or make it headless with clusterIP: None")
			continue
		}
		addresses := addressesOf(s, ingress)
		b.service(s, addresses, "", attached)
		for _, scope := range slices.Sorted(maps.Keys(attached.scopes[key])) {
			if scope != "" {
				b.service(s, addresses, scope, attached)
			}
		}
	}
}

// service makes one variant of a Service. That of everybody has all ports, that
// of a client namespace only those that a route of the namespace decides: at the
// others its clients find the variant of everybody.
func (b *build) service(s *model.Service, addresses []netip.Addr, scope string, attached attachments) {
	audience := Mesh
	name := s.String()
	if scope != "" {
		audience = NamespaceAudience(scope)
		name += "@" + scope
	}
	plain := scope == "" && len(attached.scopes[s.Key]) == 0
	if last := b.before.services[s.Key]; plain && last.from == s && sameAddresses(last.message, addresses) {
		b.useAll(last.message.Ports, s, audience)
		b.after.services[s.Key] = last
		b.emit(serviceType, name, last.message, audience)
		return
	}
	m := &xds.Service{
		Namespace:       s.Namespace,
		Name:            s.Name,
		Scope:           scope,
		Addresses:       encode(addresses),
		AffinitySeconds: s.AffinitySeconds,
	}
	for _, p := range s.Ports {
		if p.Protocol != model.TCP && p.Protocol != model.UDP {
			continue
		}
		port := &xds.ServicePort{Name: p.Name, Port: uint32(p.Port), Protocol: xds.Protocol(p.Protocol)}
		route := attached.routes[frontend{s.Key, scope, p.Port}]
		switch {
		case p.Protocol == model.TCP && route != nil:
			port.Route = route.Object()
			port.Clusters = b.backends(route, s.Namespace, audience)
		case scope == "":
			port.Clusters = []*xds.WeightedCluster{{
				Cluster: b.use(s, p, audience),
				Weight:  1,
				Backend: backendText(s.Key, p.Port),
			}}
		default:
			continue
		}
		m.Ports = append(m.Ports, port)
	}
	if plain {
		b.after.services[s.Key] = plainService{s, m}
	}
	b.emit(serviceType, name, m, audience)
}

func backendText(service model.Key, port uint16) string {
	return fmt.Sprintf("%s:%d", service, port)
}

// cluster is a Cluster in use.
type cluster struct {
	service   *model.Service
	port      model.ServicePort
	policy    *model.TrafficPolicy // nil: none
	audiences []string             // each once
}

// use notes that an audience needs the endpoints of a Service port, and returns
// the name of their Cluster.
func (b *build) use(s *model.Service, p model.ServicePort, audience string) string {
	name := fmt.Sprintf("%s/%d/%s", s.Key, p.Port, p.Protocol)
	b.useNamed(name, s, p, audience)
	return name
}

// useAll notes the use of the clusters that the ports of a plain Service name.
func (b *build) useAll(ports []*xds.ServicePort, s *model.Service, audience string) {
	for _, p := range s.Ports {
		for _, m := range ports {
			if m.Port == uint32(p.Port) && m.Protocol == xds.Protocol(p.Protocol) {
				b.useNamed(m.Clusters[0].Cluster, s, p, audience)
			}
		}
	}
}

func (b *build) useNamed(name string, s *model.Service, p model.ServicePort, audience string) {
	c := b.clusters[name]
	if c == nil {
		c = &cluster{service: s, port: p, policy: b.policy(s.Key, p.Name)}
		b.clusters[name] = c
	}
	if !slices.Contains(c.audiences, audience) {
		c.audiences = append(c.audiences, audience)
	}
}

// maxEndpoints is what nodes accept in one Cluster.
const maxEndpoints = 10_000

func (b *build) emitClusters() {
	for name, c := range b.clusters {
		m := b.known(name, c)
		if m == nil {
			m = b.cluster(name, c)
		}
		b.emit(clusterType, name, m, c.needed()...)
	}
}

func (b *build) cluster(name string, c *cluster) *xds.Cluster {
	endpoints := b.Endpoints(c.service, c.port)
	tooMany := len(endpoints) > maxEndpoints
	if tooMany {
		b.problem("Service "+c.service.String(), "TooManyEndpoints",
			fmt.Sprintf("port %d has %d endpoints, nodes take %d; the others get no connections: split the Service", c.port.Port, len(endpoints), maxEndpoints))
		endpoints = endpoints[:maxEndpoints]
	}
	m := &xds.Cluster{Name: name, Locality: locality(c.locality()), Policy: c.l4(), Endpoints: make([]*xds.Endpoint, 0, len(endpoints))}
	for _, e := range endpoints {
		m.Endpoints = append(m.Endpoints, endpoint(e))
	}
	if !tooMany {
		b.remember(name, c, m)
	}
	return m
}

func endpoint(e model.Endpoint) *xds.Endpoint {
	health := xds.Health_READY
	if e.Draining {
		health = xds.Health_DRAINING
	}
	return &xds.Endpoint{
		Address:  e.Address.Addr().AsSlice(),
		Port:     uint32(e.Address.Port()),
		Node:     e.Node,
		Zone:     e.Zone,
		Health:   health,
		Workload: e.Workload,
	}
}

// locality is that of the policy, if it says one, else that of the Service.
func (c *cluster) locality() model.Locality {
	if c.policy != nil && c.policy.Locality != nil {
		return *c.policy.Locality
	}
	return c.service.Locality
}

// needed returns who needs the cluster. Nodes of a namespace's audience belong
// to that of the mesh, which leaves nothing to add to it.
func (c *cluster) needed() []string {
	if slices.Contains(c.audiences, Mesh) {
		return mesh
	}
	return slices.Sorted(slices.Values(c.audiences))
}

// mesh is the audience of most clusters.
var mesh = []string{Mesh}

func locality(l model.Locality) xds.Locality {
	switch l {
	case model.PreferSameZone:
		return xds.Locality_PREFER_SAME_ZONE
	case model.PreferSameNode:
		return xds.Locality_PREFER_SAME_NODE
	case model.OnlySameNode:
		return xds.Locality_ONLY_SAME_NODE
	}
	return xds.Locality_LOCALITY_ANY
}
