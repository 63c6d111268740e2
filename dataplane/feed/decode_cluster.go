package feed

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unique"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// decodeCluster checks and converts a Cluster.
func decodeCluster(_, name string, value []byte) (state.Cluster, error) {
	var m xds.Cluster
	if err := unmarshal(value, &m); err != nil {
		return state.Cluster{}, err
	}
	if err := errors.Join(checkClusterName(m.Name), checkResourceName(name, m.Name)); err != nil {
		return state.Cluster{}, err
	}
	locality, err := decodeLocality(m.Locality)
	if err != nil {
		return state.Cluster{}, err
	}
	policy, err := decodePolicy(m.Policy)
	if err != nil {
		return state.Cluster{}, err
	}
	if len(m.Endpoints) > maxEndpoints {
		return state.Cluster{}, fmt.Errorf("%d endpoints, the limit is %d", len(m.Endpoints), maxEndpoints)
	}
	endpoints := make([]state.Endpoint, 0, len(m.Endpoints))
	var workloads strings.Builder
	for i, e := range m.Endpoints {
		endpoint, err := decodeEndpoint(e)
		if err != nil {
			return state.Cluster{}, fmt.Errorf("endpoints[%d]: %w", i, err)
		}
		endpoints = append(endpoints, endpoint)
		workloads.WriteString(endpoint.Workload)
	}
	// Endpoints are most of what an agent remembers. All names of a cluster's
	// workloads stand in one string, and those of nodes and zones exist once.
	rest := strings.Clone(workloads.String())
	for i := range endpoints {
		n := len(endpoints[i].Workload)
		endpoints[i].Workload, rest = rest[:n], rest[n:]
	}
	return state.Cluster{Name: name, Locality: locality, Policy: policy, Endpoints: endpoints}, nil
}

// maxPolicyTime is far above what the API allows, and fits the kernel's numbers.
const maxPolicyTime = 24 * time.Hour

func decodePolicy(m *xds.ClusterPolicy) (state.Policy, error) {
	outlier := m.GetOutlier()
	p := state.Policy{
		ConnectTimeout:     time.Duration(m.GetConnectTimeoutMs()) * time.Millisecond,
		MaxConnections:     m.GetMaxConnections(),
		MaxFailures:        outlier.GetConsecutiveFailures(),
		Ejection:           time.Duration(outlier.GetEjectionMs()) * time.Millisecond,
		MaxEjectionPercent: outlier.GetMaxEjectionPercent(),
	}
	switch {
	case p.ConnectTimeout > maxPolicyTime:
		return p, fmt.Errorf("policy: connect_timeout_ms %d is more than a day", m.ConnectTimeoutMs)
	case p.Ejection > maxPolicyTime:
		return p, fmt.Errorf("policy: ejection_ms %d is more than a day", outlier.EjectionMs)
	case p.MaxEjectionPercent > 100:
		return p, fmt.Errorf("policy: max_ejection_percent %d is more than 100", p.MaxEjectionPercent)
	case outlier != nil && p.MaxFailures == 0:
		return p, errors.New("policy: consecutive_failures must be at least 1")
	}
	return p, nil
}

// checkClusterName wants "namespace/service/port/protocol".
func checkClusterName(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return fmt.Errorf("name %.80q is not of the form namespace/service/port/protocol", name)
	}
	port, err := strconv.ParseUint(parts[2], 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != parts[2] {
		return fmt.Errorf("name %.80q: %.20q is not a port", name, parts[2])
	}
	if parts[3] != "tcp" && parts[3] != "udp" {
		return fmt.Errorf("name %.80q: the protocol must be tcp or udp", name)
	}
	return errors.Join(checkName("namespace", parts[0], maxLabel), checkName("service", parts[1], maxName))
}

func decodeLocality(l xds.Locality) (state.Locality, error) {
	switch l {
	case xds.Locality_LOCALITY_ANY:
		return state.Anywhere, nil
	case xds.Locality_PREFER_SAME_ZONE:
		return state.PreferSameZone, nil
	case xds.Locality_PREFER_SAME_NODE:
		return state.PreferSameNode, nil
	case xds.Locality_ONLY_SAME_NODE:
		return state.OnlySameNode, nil
	}
	return 0, fmt.Errorf("locality %d is unknown to this version", l)
}

func decodeEndpoint(e *xds.Endpoint) (state.Endpoint, error) {
	address, err := decodeAddress("address", e.GetAddress())
	if err != nil {
		return state.Endpoint{}, err
	}
	if err := errors.Join(
		checkPort("port", e.GetPort()),
		checkOptionalName("node", e.GetNode(), maxName),
		checkOptionalName("zone", e.GetZone(), maxLabel),
		checkText("workload", e.GetWorkload()),
	); err != nil {
		return state.Endpoint{}, err
	}
	if e.Health != xds.Health_READY && e.Health != xds.Health_DRAINING {
		return state.Endpoint{}, fmt.Errorf("health %d is unknown to this version", e.Health)
	}
	return state.Endpoint{
		Address:  netip.AddrPortFrom(address, uint16(e.Port)),
		Node:     unique.Make(e.Node).Value(),
		Zone:     unique.Make(e.Zone).Value(),
		Draining: e.Health == xds.Health_DRAINING,
		Workload: e.Workload,
	}, nil
}
