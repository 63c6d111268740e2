package model

import (
	"net/netip"
	"time"
)

// TrafficPolicy says how connections to Services are made. Settings that nobody
// made are zero.
type TrafficPolicy struct {
	Key
	Generation     int64     // metadata.generation; 0: it has none
	Created        time.Time // zero: unknown, which is before everything
	Targets        []PolicyTarget
	ConnectTimeout time.Duration     // 0: none
	MaxConnections uint32            // from one node to one Service port; 0: any number
	Outlier        *OutlierDetection // nil: none
	Locality       *Locality         // nil: that of the Service
}

// PolicyTarget is what a policy is for.
type PolicyTarget struct {
	Service  Key
	PortName string // empty: all ports
}

// OutlierDetection leaves an endpoint alone for a while when connections to it
// fail.
type OutlierDetection struct {
	ConsecutiveFailures uint32 // at least 1
	Ejection            time.Duration
	MaxEjectionPercent  uint32 // of the endpoints of a Service port, 0 to 100
}

// External is an ExternalService: addresses outside the cluster that the pods of
// its namespace connect to, and what serves them.
type External struct {
	Key
	Generation int64     // metadata.generation; 0: it has none
	Created    time.Time // zero: unknown, which is before everything
	Addresses  []netip.Addr
	Ports      []ServicePort // TargetPort is set
	Endpoints  []ExternalEndpoint
}

// ExternalEndpoint is an address that serves an External.
type ExternalEndpoint struct {
	Address netip.Addr
	Port    uint16 // 0: the target port
}

// Grant is a ReferenceGrant: routes of other namespaces may send connections to
// Services of its own.
type Grant struct {
	Key
	From []GrantFrom
	// Services are the Services that may be named; nil: all.
	Services []string
}

// GrantFrom is who may.
type GrantFrom struct {
	Kind      string // of route
	Namespace string
}

// MeshConfig is what holds for the whole cluster.
type MeshConfig struct {
	Generation int64 // metadata.generation; 0: it has none
	PodStart   PodStart
}

// PodStart says what becomes of pods that start while the agent cannot be asked.
type PodStart struct {
	Drop             bool     // they start and their packets are dropped; otherwise they wait
	ExemptNamespaces []string // sorted
}
