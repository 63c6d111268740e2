package feed

import (
	"errors"
	"fmt"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// decodeService checks and converts a Service.
func decodeService(_, name string, value []byte) (state.Service, error) {
	var m xds.Service
	if err := unmarshal(value, &m); err != nil {
		return state.Service{}, err
	}
	if err := errors.Join(
		checkName("namespace", m.Namespace, maxLabel),
		checkName("name", m.Name, maxName),
		checkOptionalName("scope", m.Scope, maxLabel),
	); err != nil {
		return state.Service{}, err
	}
	want := m.Namespace + "/" + m.Name
	if m.Scope != "" {
		want += "@" + m.Scope
	}
	if err := checkResourceName(name, want); err != nil {
		return state.Service{}, err
	}
	if m.AffinitySeconds > maxAffinity {
		return state.Service{}, fmt.Errorf("affinity_seconds is %d, the limit is %d", m.AffinitySeconds, maxAffinity)
	}
	addresses, err := decodeAddresses("addresses", m.Addresses, maxServiceAddresses)
	if err != nil {
		return state.Service{}, err
	}
	for _, a := range addresses {
		// It would take a pod's own loopback traffic away from it.
		if a.IsLoopback() {
			return state.Service{}, fmt.Errorf("service address %s is a loopback address", a)
		}
	}
	ports, err := decodePorts(m.Ports)
	if err != nil {
		return state.Service{}, err
	}
	return state.Service{
		Namespace:       m.Namespace,
		Name:            m.Name,
		Scope:           m.Scope,
		Addresses:       addresses,
		Ports:           ports,
		AffinitySeconds: m.AffinitySeconds,
	}, nil
}

func decodePorts(list []*xds.ServicePort) ([]state.Port, error) {
	if len(list) > maxServicePorts {
		return nil, fmt.Errorf("%d ports, the limit is %d", len(list), maxServicePorts)
	}
	type portKey struct {
		port     uint32
		protocol xds.Protocol
	}
	seen := make(map[portKey]bool, len(list))
	ports := make([]state.Port, 0, len(list))
	for i, p := range list {
		port, err := decodePort(p)
		if err != nil {
			return nil, fmt.Errorf("ports[%d]: %w", i, err)
		}
		key := portKey{p.Port, p.Protocol}
		if seen[key] {
			return nil, fmt.Errorf("ports[%d]: port %d/%s appears twice", i, p.Port, port.Protocol)
		}
		seen[key] = true
		ports = append(ports, port)
	}
	return ports, nil
}

func decodePort(p *xds.ServicePort) (state.Port, error) {
	if err := errors.Join(
		checkOptionalName("name", p.GetName(), maxLabel),
		checkPort("port", p.GetPort()),
		checkText("route", p.GetRoute()),
	); err != nil {
		return state.Port{}, err
	}
	if p.Protocol != xds.Protocol_TCP && p.Protocol != xds.Protocol_UDP {
		return state.Port{}, fmt.Errorf("protocol is %d, it must be 6 (TCP) or 17 (UDP)", p.Protocol)
	}
	if n := len(p.Clusters); n < 1 || n > maxPortClusters {
		return state.Port{}, fmt.Errorf("%d clusters, it must have 1 to %d", n, maxPortClusters)
	}
	clusters := make([]state.WeightedCluster, 0, len(p.Clusters))
	for i, c := range p.Clusters {
		if err := errors.Join(
			checkText("cluster", c.GetCluster()),
			checkText("backend", c.GetBackend()),
		); err != nil {
			return state.Port{}, fmt.Errorf("clusters[%d]: %w", i, err)
		}
		if c.GetWeight() > maxWeight {
			return state.Port{}, fmt.Errorf("clusters[%d]: weight is %d, the limit is %d", i, c.Weight, int(maxWeight))
		}
		clusters = append(clusters, state.WeightedCluster{Cluster: c.GetCluster(), Weight: c.GetWeight(), Backend: c.GetBackend()})
	}
	return state.Port{
		Name:     p.Name,
		Port:     uint16(p.Port),
		Protocol: state.Protocol(p.Protocol),
		Route:    p.Route,
		Clusters: clusters,
	}, nil
}
