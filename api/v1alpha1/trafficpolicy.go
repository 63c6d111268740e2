package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TrafficPolicy says how connections to a Service are made: how long to wait for
// one, how many there may be, which endpoints are preferred, and which are left
// alone for a while because they do not answer.
//
// It is a Direct policy in the sense of GEP-713: it affects the Services that it
// targets, in its own namespace, and nothing else. When several target the same
// Service port, the oldest one decides alone and the others are told so with
// reason Conflicted; one that names the port goes before one for the whole
// Service.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tp,categories=heddle,path=trafficpolicies
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Direct"
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Targets",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.ancestors[*].conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.ancestors[*].conditions[?(@.type=="Programmed")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec TrafficPolicySpec `json:"spec"`
	// status is what became of it, for each Service that it targets.
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty"`
}

// TrafficPolicySpec is what the user wants. Settings that are left out have no
// effect.
//
// +kubebuilder:validation:XValidation:rule="has(self.connectTimeout) || has(self.maxConnections) || has(self.outlierDetection) || has(self.locality)",message="set at least one of connectTimeout, maxConnections, outlierDetection and locality"
type TrafficPolicySpec struct {
	// targetRefs are the Services that the policy is for, of its own namespace.
	// With sectionName, only the port of that name.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, (r.group == '' || r.group == 'core') && r.kind == 'Service')",message="a TrafficPolicy targets Services: group must be '' and kind must be 'Service'"
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.name == b.name && (has(a.sectionName) ? a.sectionName : '') == (has(b.sectionName) ? b.sectionName : '')))",message="each Service, or port of it, may be targeted once"
	TargetRefs []gatewayv1.LocalPolicyTargetReferenceWithSectionName `json:"targetRefs"`

	// connectTimeout bounds how long a connection may take to come about, from
	// 10ms to 5m. The client then gets "timed out" instead of waiting for its
	// own, much longer, limit.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('5m')",message="connectTimeout must be between 10ms and 5m"
	ConnectTimeout *Duration `json:"connectTimeout,omitempty"`

	// maxConnections bounds the open connections from the pods of one node to
	// one port of the Service. Connections above it are refused.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// outlierDetection leaves endpoints alone for a while when connections to
	// them fail.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`

	// locality says which endpoints are used by where they are. It takes the
	// place of the Service's trafficDistribution and internalTrafficPolicy. Any:
	// all alike. PreferSameZone, PreferSameNode: others only when there is none.
	// OnlySameNode: never others.
	// +optional
	Locality *Locality `json:"locality,omitempty"`
}

// OutlierDetection says when an endpoint is left alone.
type OutlierDetection struct {
	// consecutiveConnectFailures is how many connections from a node to an
	// endpoint have to fail in a row for it to be left alone by that node.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	ConsecutiveConnectFailures *int32 `json:"consecutiveConnectFailures,omitempty"`

	// ejectionTime is how long it is left alone, from 1s to 1h.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="ejectionTime must be between 1s and 1h"
	EjectionTime *Duration `json:"ejectionTime,omitempty"`

	// maxEjectionPercent bounds how many of a Service port's endpoints are left
	// alone at once. When more fail, the others keep getting connections: it is
	// then the network that is broken, or all of them are.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`
}

// Duration is a time span in the form of Gateway API (GEP-2257): "250ms", "1m30s".
//
// +kubebuilder:validation:MaxLength=28
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
type Duration string

// Locality is which endpoints are used by where they are.
//
// +kubebuilder:validation:Enum=Any;PreferSameZone;PreferSameNode;OnlySameNode
type Locality string

// The localities.
const (
	LocalityAny            Locality = "Any"
	LocalityPreferSameZone Locality = "PreferSameZone"
	LocalityPreferSameNode Locality = "PreferSameNode"
	LocalityOnlySameNode   Locality = "OnlySameNode"
)

// TrafficPolicyList is a list of TrafficPolicies.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}
