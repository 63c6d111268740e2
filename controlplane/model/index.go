package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Index answers questions about a snapshot that need more than one lookup.
type Index struct {
	*Snapshot
	slices map[Key][]*Slice // by Service
	pods   map[label][]*Pod // those that a selector may match
}

// label is a label of a pod that some selector asks for.
type label struct{ namespace, key, value string }

// Index prepares the snapshot for questions.
func (s *Snapshot) Index() *Index {
	x := &Index{Snapshot: s, slices: make(map[Key][]*Slice, len(s.Services)), pods: make(map[label][]*Pod)}
	for _, slice := range s.Slices {
		if slice.Service != "" {
			key := Key{slice.Namespace, slice.Service}
			x.slices[key] = append(x.slices[key], slice)
		}
	}
	wanted := make(map[label]bool)
	for key, service := range s.Services {
		if len(x.slices[key]) > 0 {
			continue
		}
		for k, v := range service.Selector {
			wanted[label{key.Namespace, k, v}] = true
		}
	}
	if len(wanted) == 0 {
		return x
	}
	for _, pod := range s.Pods {
		for k, v := range pod.Labels {
			if l := (label{pod.Namespace, k, v}); wanted[l] {
				x.pods[l] = append(x.pods[l], pod)
			}
		}
	}
	return x
}

// SlicesOf returns the slices of a Service, in no particular order. They are not
// to be changed.
func (x *Index) SlicesOf(service Key) []*Slice { return x.slices[service] }

// candidates returns the pods that have one label of a selector, the rarest: not
// every Service has to look at every pod.
func (x *Index) candidates(namespace string, selector map[string]string) []*Pod {
	var rarest []*Pod
	first := true
	for k, v := range selector {
		if pods := x.pods[label{namespace, k, v}]; first || len(pods) < len(rarest) {
			rarest, first = pods, false
		}
	}
	return rarest
}

// InMesh reports whether the pod's connections are Heddle's to handle. The pod's
// own label goes before that of its namespace. Pods that share the node's network
// are never in the mesh: capturing them would capture the node.
func (x *Index) InMesh(p *Pod) bool {
	if p.HostNetwork || p.Finished {
		return false
	}
	switch p.Labels[MeshLabel] {
	case MeshEnabled:
		return true
	case MeshDisabled:
		return false
	}
	ns := x.Namespaces[p.Namespace]
	return ns != nil && ns.Mesh == MeshEnabled
}

// Endpoint is one address and port behind a Service.
type Endpoint struct {
	Address  netip.AddrPort
	Node     string
	Zone     string
	Workload string // "namespace/name" of the pod; empty when it is none
	Draining bool
}

// Endpoints returns what serves a port of a Service, ordered by address, each
// address once. They come from the Service's slices; a Service with a selector
// and without any slice gets them from the pods that the selector matches, as the
// endpoint slice controller would write them.
func (x *Index) Endpoints(s *Service, p ServicePort) []Endpoint {
	var all []Endpoint
	if parts := x.slices[s.Key]; len(parts) > 0 {
		all = fromSlices(parts, p)
	} else if len(s.Selector) > 0 {
		all = x.fromPods(s, p)
	}
	for i := range all {
		if e := &all[i]; e.Zone == "" {
			e.Zone = x.zone(e.Node)
		}
	}
	slices.SortFunc(all, compareEndpoints)
	// An endpoint that moves from one slice to another is in both for a while,
	// and one of them may be out of date: the ready one comes first and stays.
	return slices.CompactFunc(all, func(a, b Endpoint) bool { return a.Address == b.Address })
}

// compareEndpoints also looks at the descriptions, so that the order does not
// depend on that of a map.
func compareEndpoints(a, b Endpoint) int {
	draining := func(e Endpoint) int {
		if e.Draining {
			return 1
		}
		return 0
	}
	return cmp.Or(
		a.Address.Compare(b.Address),
		draining(a)-draining(b),
		strings.Compare(a.Node, b.Node),
		strings.Compare(a.Zone, b.Zone),
		strings.Compare(a.Workload, b.Workload),
	)
}

// fromSlices matches by the port's name, not by its number: that is how a slice
// says which Service port it is for.
func fromSlices(parts []*Slice, p ServicePort) []Endpoint {
	var all []Endpoint
	for _, part := range parts {
		for _, port := range part.Ports {
			if port.Name != p.Name || port.Protocol != p.Protocol {
				continue
			}
			for _, e := range part.Endpoints {
				if e.Health == Down {
					continue
				}
				all = append(all, Endpoint{
					Address:  netip.AddrPortFrom(e.Address, port.Port),
					Node:     e.Node,
					Zone:     e.Zone,
					Workload: e.Workload,
					Draining: e.Health == Draining,
				})
			}
		}
	}
	return all
}

func (x *Index) fromPods(s *Service, p ServicePort) []Endpoint {
	var all []Endpoint
	for _, pod := range x.candidates(s.Namespace, s.Selector) {
		health := pod.health(s.PublishNotReady)
		port := pod.target(p)
		if health == Down || port == 0 || !matches(s.Selector, pod.Labels) {
			continue
		}
		for _, address := range pod.Addresses {
			if address.Is4() && !s.IPv4 || address.Is6() && !s.IPv6 {
				continue
			}
			all = append(all, Endpoint{
				Address:  netip.AddrPortFrom(address, port),
				Node:     pod.Node,
				Workload: pod.String(),
				Draining: health == Draining,
			})
		}
	}
	return all
}

func (p *Pod) health(publishNotReady bool) Health {
	switch {
	case p.Finished:
		return Down
	case publishNotReady:
		return Ready
	case !p.Ready:
		return Down
	case p.Terminating:
		return Draining
	}
	return Ready
}

// target returns the port of the pod that a Service port leads to; 0 when the pod
// has no port of that name.
func (p *Pod) target(s ServicePort) uint16 {
	if s.TargetPort != 0 {
		return s.TargetPort
	}
	for _, port := range p.Ports {
		if port.Name == s.TargetName && port.Protocol == s.Protocol {
			return port.Port
		}
	}
	return 0
}

func (x *Index) zone(node string) string {
	if n := x.Nodes[node]; n != nil {
		return n.Zone
	}
	return ""
}

func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
