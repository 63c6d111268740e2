package feedtest

import "heddle.io/heddle/api/xds"

// Node is the name of the node that the resources are for.
const Node = "node1"

// Service is a well-formed Service shop/NAME whose port 80 goes to cluster
// shop/NAME/80/tcp.
func Service(name string, weight uint32) *xds.Service {
	return &xds.Service{
		Namespace: "shop", Name: name, Addresses: [][]byte{{10, 96, 0, 1}},
		Ports: []*xds.ServicePort{{Name: "http", Port: 80, Protocol: xds.Protocol_TCP,
			Clusters: []*xds.WeightedCluster{{Cluster: ClusterName(name), Weight: weight, Backend: "shop/" + name + ":80"}}}},
	}
}

// ClusterName is the resource name of the cluster behind Service(service).
func ClusterName(service string) string { return "shop/" + service + "/80/tcp" }

// Cluster has an endpoint 10.0.0.N:8080 for every N of endpoints.
func Cluster(service string, endpoints ...byte) *xds.Cluster {
	c := &xds.Cluster{Name: ClusterName(service)}
	for _, last := range endpoints {
		c.Endpoints = append(c.Endpoints, &xds.Endpoint{Address: []byte{10, 0, 0, last}, Port: 8080, Health: xds.Health_READY, Node: Node})
	}
	return c
}

// Workload is the pod shop/NAME at 10.0.0.9.
func Workload(name string, mesh bool) *xds.Workload {
	return &xds.Workload{Namespace: "shop", Name: name, Node: Node, Addresses: [][]byte{{10, 0, 0, 9}}, Mesh: mesh}
}

// SetShop fills the server with one of each.
func (s *Server) SetShop() {
	s.Set(xds.NodeType, Node, &xds.Node{Name: Node, Zone: "z1"})
	s.Set(xds.WorkloadType, "shop/web", Workload("web", true))
	s.Set(xds.ClusterType, ClusterName("cart"), Cluster("cart", 1, 2))
	s.Set(xds.ServiceType, "shop/cart", Service("cart", 1))
}
