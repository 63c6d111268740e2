package state

import (
	"net/netip"
	"slices"
	"time"
)

// Snapshot is everything a node knows at one moment. It is never changed after
// it was published, so any number of goroutines may read it; who changes something
// publishes a new one that shares the unchanged values. Keys are xDS resource
// names.
type Snapshot struct {
	Node      Node
	Workloads map[string]Workload
	Services  map[string]Service
	Clusters  map[string]Cluster
}

// Node says where this node stands.
type Node struct {
	Name     string
	Zone     string // empty when unknown
	PodStart PodStart
}

// PodStart says what becomes of pods that start while the agent is down.
type PodStart struct {
	Drop   bool     // they start, and their packets are dropped; otherwise they wait
	Exempt []string // namespaces whose pods do neither
}

// Equal reports whether two policies are the same.
func (p PodStart) Equal(q PodStart) bool {
	return p.Drop == q.Drop && slices.Equal(p.Exempt, q.Exempt)
}

// Workload is a pod of this node.
type Workload struct {
	Namespace, Name, UID string
	ServiceAccount       string
	Addresses            []netip.Addr
	Mesh                 bool // its namespace asks for the mesh
	HostNetwork          bool // shares the node's namespace; never captured
	SocketBypass         bool // asks for the socket bypass
}

// Protocol is an IANA protocol number.
type Protocol uint8

// The protocols that a Service port may have.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String returns "tcp" or "udp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "unknown"
}

// Service is a virtual address and where its connections go.
type Service struct {
	Namespace, Name string
	Scope           string // client namespace this variant is for; empty: all
	Addresses       []netip.Addr
	Ports           []Port
	AffinitySeconds uint32 // 0: no affinity
}

// Port is one port of a Service.
type Port struct {
	Name     string
	Port     uint16
	Protocol Protocol
	Route    string // the route that set the weights; empty: none
	Clusters []WeightedCluster
}

// WeightedCluster is a share of a port's connections.
type WeightedCluster struct {
	Cluster string // empty: the backend does not exist, its share is refused
	Weight  uint32
	Backend string // what the user wrote, for messages
}

// Locality restricts or orders the endpoints of a cluster by where they are.
type Locality uint8

// The localities, in the meaning of Service.spec.trafficDistribution and
// Service.spec.internalTrafficPolicy.
const (
	Anywhere Locality = iota
	PreferSameZone
	PreferSameNode
	OnlySameNode
)

// String returns "any", "prefer-zone", "prefer-node" or "only-node".
func (l Locality) String() string {
	switch l {
	case Anywhere:
		return "any"
	case PreferSameZone:
		return "prefer-zone"
	case PreferSameNode:
		return "prefer-node"
	case OnlySameNode:
		return "only-node"
	}
	return "unknown"
}

// Cluster is the endpoints behind one port of a Service.
type Cluster struct {
	Name      string
	Locality  Locality
	Policy    Policy
	Endpoints []Endpoint
}

// Policy is how TCP connections to a cluster are made. What it does not say is 0.
type Policy struct {
	ConnectTimeout     time.Duration
	MaxConnections     uint32 // open at once, of this node
	MaxFailures        uint32 // connects that fail in a row until an endpoint is ejected; 0: never
	Ejection           time.Duration
	MaxEjectionPercent uint32 // of the endpoints that this node uses, rounded down
}

// Endpoint is one address and port that serves.
type Endpoint struct {
	Address  netip.AddrPort
	Node     string
	Zone     string
	Draining bool   // shutting down: used only when no endpoint is ready
	Workload string // "namespace/name" when known
}
