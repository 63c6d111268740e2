package model

import (
	"cmp"
	"net/netip"
	"strings"
	"time"
)

// Snapshot is a cluster at one moment. Neither it nor what it points to is
// changed once it was made, so any number of goroutines may read it, and two
// snapshots share the objects that did not change between them.
type Snapshot struct {
	Namespaces map[string]*Namespace
	Nodes      map[string]*Node
	Pods       map[Key]*Pod
	Services   map[Key]*Service
	Slices     map[Key]*Slice
	Routes     map[Key]*Route // TCPRoutes
	TLSRoutes  map[Key]*Route
	HTTPRoutes map[Key]*Route
	GRPCRoutes map[Key]*Route
	Policies   map[Key]*TrafficPolicy
	Externals  map[Key]*External
	Grants     map[Key]*Grant
	Mesh       *MeshConfig // nil: every setting has its default
}

// Key names an object within a namespace.
type Key struct {
	Namespace, Name string
}

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// MeshLabel is the label of namespaces and pods that asks for the mesh. Its
// values are MeshEnabled and MeshDisabled.
const (
	MeshLabel    = "heddle.io/mesh"
	MeshEnabled  = "enabled"
	MeshDisabled = "disabled"
)

// BypassLabel is the label of pods whose application takes what the socket
// bypass changes; it works between two such pods. Values as for MeshLabel.
const BypassLabel = "heddle.io/socket-bypass"

// Namespace is a namespace.
type Namespace struct {
	Name string
	Mesh string // value of MeshLabel, whatever it is
}

// Node is a machine of the cluster.
type Node struct {
	Name string
	Zone string // topology.kubernetes.io/zone; empty when unknown
}

// Pod is a pod.
type Pod struct {
	Key
	UID            string
	Created        time.Time // zero: unknown
	Node           string    // empty: not scheduled
	ServiceAccount string
	Labels         map[string]string
	Addresses      []netip.Addr // at most one of each family
	HostNetwork    bool
	Ready          bool // the Ready condition
	Terminating    bool // has a deletion time
	Finished       bool // all containers ended for good; its addresses may be in use elsewhere
	Ports          []NamedPort
}

// NamedPort is a named port of a container.
type NamedPort struct {
	Name     string
	Port     uint16
	Protocol Protocol
}

// Protocol is an IANA protocol number.
type Protocol uint8

// The protocols that a Service port may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns "tcp", "udp" or "sctp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// ServiceKind tells how a Service is reached.
type ServiceKind uint8

// NodePort and LoadBalancer Services are ClusterIP here: what comes in by them
// from outside is left to the platform.
const (
	ClusterIP ServiceKind = iota
	Headless
	ExternalName
)

// String returns the kind as users know it.
func (k ServiceKind) String() string {
	switch k {
	case ClusterIP:
		return "ClusterIP"
	case Headless:
		return "headless"
	case ExternalName:
		return "ExternalName"
	}
	return "unknown"
}

// Locality restricts or orders endpoints by where they are.
type Locality uint8

// The localities, in the meaning of Service.spec.trafficDistribution and
// Service.spec.internalTrafficPolicy.
const (
	Anywhere Locality = iota
	PreferSameZone
	PreferSameNode
	OnlySameNode
)

// Service is a Service.
type Service struct {
	Key
	Created         time.Time // zero: unknown
	Kind            ServiceKind
	Addresses       []netip.Addr // cluster IPs
	Ingress         []netip.Addr // of its load balancer, which mean the Service to pods as well
	IPv4, IPv6      bool         // families of its endpoints
	Selector        map[string]string
	PublishNotReady bool
	Ports           []ServicePort
	AffinitySeconds uint32 // 0: no affinity
	Locality        Locality
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Name       string
	Port       uint16
	Protocol   Protocol
	TargetPort uint16 // 0: TargetName
	TargetName string // name of a container's port
}

// Slice is a part of a Service's endpoints, from an EndpointSlice.
type Slice struct {
	Key
	Service   string // of the same namespace; empty: of none
	Ports     []NamedPort
	Endpoints []SliceEndpoint
}

// SliceEndpoint is one address of a Slice; it serves all its ports.
type SliceEndpoint struct {
	Address  netip.Addr
	Node     string
	Zone     string
	Workload string // "namespace/name" of the pod; empty when it is none
	Health   Health
}

// Health tells whether an endpoint gets connections.
type Health uint8

// A draining endpoint shuts down but still serves: it is used only when no other
// is ready. One that is down is not used.
const (
	Down Health = iota
	Draining
	Ready
)

// RouteKind is the kind of a route.
type RouteKind uint8

// The kinds, the one that gives way to the others first (GEP-1294).
const (
	TCPRoute RouteKind = iota
	TLSRoute
	HTTPRoute
	GRPCRoute
)

// String returns the kind as it is written in objects.
func (k RouteKind) String() string {
	return [...]string{"TCPRoute", "TLSRoute", "HTTPRoute", "GRPCRoute"}[k]
}

// Route is a route. Of HTTPRoutes and GRPCRoutes, which are not programmed, only
// the parents are here.
type Route struct {
	Key
	Kind       RouteKind
	Generation int64     // metadata.generation; 0: it has none
	Created    time.Time // zero: unknown, which is before everything
	Parents    []Parent
	Hostnames  []string // of a TLSRoute: the server names that it is for
	Rules      int      // how many it has
	Backends   []Backend
}

// Object returns "TCPRoute shop/canary".
func (r *Route) Object() string { return r.Kind.String() + " " + r.Key.String() }

// Parent is a Service that a route attaches to. References to anything else
// belong to others and are left out.
type Parent struct {
	Service  Key
	Port     uint16 // 0: any
	PortName string // empty: any
}

// Backend is a share of the first rule's connections.
type Backend struct {
	Kind    string // empty: a Service; otherwise "group/Kind" of what it is
	Service Key    // or whatever Kind says
	Port    uint16 // 0: not given
	Weight  uint32
}

// Problem is something that the operator should know.
type Problem struct {
	Object string // "TCPRoute shop/canary", "file routes.yaml"
	Reason string // stable code, CamelCase
	Detail string // what is wrong and what to do about it
	// Parent is the parent of a route, or the target of a policy, that it is about;
	// zero: the object as a whole.
	Parent Parent
}

// Compare orders problems by object, reason and detail.
func (p Problem) Compare(o Problem) int {
	return cmp.Or(strings.Compare(p.Object, o.Object), strings.Compare(p.Reason, o.Reason), strings.Compare(p.Detail, o.Detail))
}
