package source

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"heddle.io/heddle/api/v1alpha1"
	"heddle.io/heddle/controlplane/model"
)

// An id names an object of the cluster. Namespaces and Nodes have no namespace.
type id struct {
	Kind string
	Key  model.Key
}

func (i id) String() string {
	if i.Key.Namespace == "" {
		return i.Kind + " " + i.Key.Name
	}
	return i.Kind + " " + i.Key.String()
}

func (i id) compare(o id) int {
	return cmp.Or(strings.Compare(i.Kind, o.Kind), i.Key.Compare(o.Key))
}

// An object is one that passed every check that needs no other object. It is
// never changed once made. Exactly one of the pointers is set.
type object struct {
	Namespace *model.Namespace `json:",omitempty"`
	Node      *model.Node      `json:",omitempty"`
	Pod       *model.Pod       `json:",omitempty"`
	Service   *model.Service   `json:",omitempty"`
	Slice     *model.Slice     `json:",omitempty"`
	Route     *model.Route     `json:",omitempty"`
	Grant     *model.Grant     `json:",omitempty"`

	Mesh     *model.MeshConfig    `json:",omitempty"`
	Policy   *model.TrafficPolicy `json:",omitempty"`
	External *model.External      `json:",omitempty"`

	// sum is that of the text that the object was read from; zero for objects
	// from the state directory, which are always read again.
	sum [sha256.Size]byte
}

// The kinds that are read.
const (
	namespaceKind = "Namespace"
	nodeKind      = "Node"
	podKind       = "Pod"
	serviceKind   = "Service"
	sliceKind     = "EndpointSlice"
	tcpRouteKind  = "TCPRoute"
	tlsRouteKind  = "TLSRoute"
	httpRouteKind = "HTTPRoute"
	grpcRouteKind = "GRPCRoute"
	grantKind     = "ReferenceGrant"
	meshKind      = "MeshConfig"
	policyKind    = "TrafficPolicy"
	externalKind  = "ExternalService"
)

func (o *object) id() id {
	switch {
	case o.Namespace != nil:
		return id{namespaceKind, model.Key{Name: o.Namespace.Name}}
	case o.Node != nil:
		return id{nodeKind, model.Key{Name: o.Node.Name}}
	case o.Pod != nil:
		return id{podKind, o.Pod.Key}
	case o.Service != nil:
		return id{serviceKind, o.Service.Key}
	case o.Slice != nil:
		return id{sliceKind, o.Slice.Key}
	case o.Route != nil:
		return id{o.Route.Kind.String(), o.Route.Key}
	case o.Grant != nil:
		return id{grantKind, o.Grant.Key}
	case o.Mesh != nil:
		return id{meshKind, model.Key{Name: v1alpha1.MeshConfigName}}
	case o.Policy != nil:
		return id{policyKind, o.Policy.Key}
	case o.External != nil:
		return id{externalKind, o.External.Key}
	}
	return id{}
}

// created is when the object came into being; zero when nobody said.
func (o *object) created() time.Time {
	switch {
	case o.Pod != nil:
		return o.Pod.Created
	case o.Service != nil:
		return o.Service.Created
	}
	return time.Time{}
}

// A claim is something that only one object of a kind can have.
type claim struct {
	kind     string
	address  netip.Addr
	port     uint16 // 0 for pods
	protocol model.Protocol
}

func (c claim) String() string {
	if c.port == 0 {
		return c.address.String()
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(c.address, c.port), c.protocol)
}

// claims returns what the object needs for itself: a pod its addresses, a
// Service its cluster IPs at its ports.
func (o *object) claims() []claim {
	var out []claim
	switch {
	case o.Pod != nil && !o.Pod.HostNetwork && !o.Pod.Finished:
		for _, a := range o.Pod.Addresses {
			out = append(out, claim{kind: podKind, address: a})
		}
	case o.Service != nil:
		for _, a := range o.Service.Addresses {
			for _, p := range o.Service.Ports {
				out = append(out, claim{serviceKind, a, p.Port, p.Protocol})
			}
		}
	}
	return out
}

// snapshot puts objects together. before is the one before, which tells about
// how many there are; nil: there is none.
func snapshot(objects map[id]owned, before *model.Snapshot) *model.Snapshot {
	if before == nil {
		before = &model.Snapshot{}
	}
	s := &model.Snapshot{
		Namespaces: make(map[string]*model.Namespace, len(before.Namespaces)),
		Nodes:      make(map[string]*model.Node, len(before.Nodes)),
		Pods:       make(map[model.Key]*model.Pod, len(before.Pods)),
		Services:   make(map[model.Key]*model.Service, len(before.Services)),
		Slices:     make(map[model.Key]*model.Slice, len(before.Slices)),
		Routes:     make(map[model.Key]*model.Route, len(before.Routes)),
		TLSRoutes:  make(map[model.Key]*model.Route, len(before.TLSRoutes)),
		HTTPRoutes: make(map[model.Key]*model.Route, len(before.HTTPRoutes)),
		GRPCRoutes: make(map[model.Key]*model.Route, len(before.GRPCRoutes)),
		Grants:     make(map[model.Key]*model.Grant, len(before.Grants)),
		Policies:   make(map[model.Key]*model.TrafficPolicy, len(before.Policies)),
		Externals:  make(map[model.Key]*model.External, len(before.Externals)),
	}
	for i, o := range objects {
		put(s, i, o.object)
	}
	return s
}

// put puts an object into a snapshot that is being made; nil takes it out.
func put(s *model.Snapshot, i id, o *object) {
	if o == nil {
		o = &object{}
	}
	switch i.Kind {
	case namespaceKind:
		set(s.Namespaces, i.Key.Name, o.Namespace)
	case nodeKind:
		set(s.Nodes, i.Key.Name, o.Node)
	case podKind:
		set(s.Pods, i.Key, o.Pod)
	case serviceKind:
		set(s.Services, i.Key, o.Service)
	case sliceKind:
		set(s.Slices, i.Key, o.Slice)
	case tcpRouteKind:
		set(s.Routes, i.Key, o.Route)
	case tlsRouteKind:
		set(s.TLSRoutes, i.Key, o.Route)
	case httpRouteKind:
		set(s.HTTPRoutes, i.Key, o.Route)
	case grpcRouteKind:
		set(s.GRPCRoutes, i.Key, o.Route)
	case grantKind:
		set(s.Grants, i.Key, o.Grant)
	case policyKind:
		set(s.Policies, i.Key, o.Policy)
	case externalKind:
		set(s.Externals, i.Key, o.External)
	case meshKind:
		s.Mesh = o.Mesh
	}
}

func set[K comparable, V any](m map[K]*V, k K, v *V) {
	if v == nil {
		delete(m, k)
		return
	}
	m[k] = v
}

// own gives a snapshot that is being made its own map of a kind.
func own(s *model.Snapshot, kind string) {
	switch kind {
	case namespaceKind:
		s.Namespaces = maps.Clone(s.Namespaces)
	case nodeKind:
		s.Nodes = maps.Clone(s.Nodes)
	case podKind:
		s.Pods = maps.Clone(s.Pods)
	case serviceKind:
		s.Services = maps.Clone(s.Services)
	case sliceKind:
		s.Slices = maps.Clone(s.Slices)
	case tcpRouteKind:
		s.Routes = maps.Clone(s.Routes)
	case tlsRouteKind:
		s.TLSRoutes = maps.Clone(s.TLSRoutes)
	case httpRouteKind:
		s.HTTPRoutes = maps.Clone(s.HTTPRoutes)
	case grpcRouteKind:
		s.GRPCRoutes = maps.Clone(s.GRPCRoutes)
	case grantKind:
		s.Grants = maps.Clone(s.Grants)
	case policyKind:
		s.Policies = maps.Clone(s.Policies)
	case externalKind:
		s.Externals = maps.Clone(s.Externals)
	}
}
