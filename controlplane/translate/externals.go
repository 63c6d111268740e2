package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// ExternalSuffix sets the names of what is made of ExternalServices apart from
// those of Services, which have no dots.
const ExternalSuffix = ".external"

// place is what only one ExternalService of a namespace can have.
type place struct {
	namespace string
	address   netip.AddrPort
	protocol  model.Protocol
}

// externals makes a Service of each ExternalService, for the clients of its
// namespace alone: nobody takes other people's connections by making an object.
func (b *build) externals() {
	if len(b.Externals) == 0 {
		return
	}
	ours := b.clusterIPs()
	taken := make(map[place]*model.External)
	for _, x := range slices.SortedFunc(maps.Values(b.Externals), externalAge) {
		if detail := claim(x, ours, taken); detail != "" {
			b.problem("ExternalService "+x.String(), "AddressInUse", detail+"; it is left out: use another address")
			continue
		}
		b.external(x)
	}
}

func externalAge(x, y *model.External) int {
	return cmp.Or(x.Created.Compare(y.Created), x.Key.Compare(y.Key))
}

// clusterIPs are the addresses of Services: an ExternalService with one of them
// would be in the way of the Service.
func (b *build) clusterIPs() map[netip.Addr]model.Key {
	out := make(map[netip.Addr]model.Key, len(b.Services))
	for key, s := range b.Services {
		for _, a := range s.Addresses {
			if other, shared := out[a]; !shared || key.Compare(other) < 0 {
				out[a] = key
			}
		}
	}
	return out
}

// claim gives an ExternalService its places, or says who has one of them.
func claim(x *model.External, ours map[netip.Addr]model.Key, taken map[place]*model.External) string {
	var places []place
	for _, a := range x.Addresses {
		if service, isOurs := ours[a]; isOurs {
			return fmt.Sprintf("%s belongs to Service %s", a, service)
		}
		for _, p := range x.Ports {
			at := place{x.Namespace, netip.AddrPortFrom(a, p.Port), p.Protocol}
			if holder := taken[at]; holder != nil {
				return fmt.Sprintf("%s/%s belongs to ExternalService %s, which is older", at.address, p.Protocol, holder.Key)
			}
			places = append(places, at)
		}
	}
	for _, at := range places {
		taken[at] = x
	}
	return ""
}

func (b *build) external(x *model.External) {
	audience := NamespaceAudience(x.Namespace)
	m := &xds.Service{
		Namespace: x.Namespace,
		Name:      x.Name + ExternalSuffix,
		Scope:     x.Namespace,
		Addresses: encode(x.Addresses),
	}
	for _, p := range x.Ports {
		name := fmt.Sprintf("%s/%s/%d/%s", x.Namespace, m.Name, p.Port, p.Protocol)
		b.emit(clusterType, name, externalCluster(name, x, p), audience)
		m.Ports = append(m.Ports, &xds.ServicePort{
			Name: p.Name, Port: uint32(p.Port), Protocol: xds.Protocol(p.Protocol),
			Clusters: []*xds.WeightedCluster{{
				Cluster: name,
				Weight:  1,
				Backend: "ExternalService " + backendText(x.Key, p.Port),
			}},
		})
	}
	b.emit(serviceType, m.Namespace+"/"+m.Name+"@"+m.Scope, m, audience)
}

func externalCluster(name string, x *model.External, p model.ServicePort) *xds.Cluster {
	var all []model.Endpoint
	for _, e := range x.Endpoints {
		port := cmp.Or(e.Port, p.TargetPort)
		all = append(all, model.Endpoint{Address: netip.AddrPortFrom(e.Address, port)})
	}
	slices.SortFunc(all, func(a, b model.Endpoint) int { return a.Address.Compare(b.Address) })
	m := &xds.Cluster{Name: name}
	for _, e := range slices.Compact(all) {
		m.Endpoints = append(m.Endpoints, endpoint(e))
	}
	return m
}
