package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalService is a Service outside the cluster: connections of pods in the
// mesh to one of its addresses go to one of its endpoints.
//
// It is for the pods of its own namespace: nobody else's connections change
// because somebody made an object.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=es,categories=heddle
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Ports",type=string,JSONPath=`.spec.ports[*].port`
// +kubebuilder:printcolumn:name="Endpoints",type=string,JSONPath=`.spec.endpoints[*].address`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalService struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec ExternalServiceSpec `json:"spec"`
	// status is what became of it.
	// +optional
	Status ObjectStatus `json:"status,omitempty"`
}

// ExternalServiceSpec is what the user wants.
type ExternalServiceSpec struct {
	// addresses are the IP addresses that clients connect to. They need not
	// exist anywhere; they must not be those of a Service of the cluster.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Addresses []Address `json:"addresses"`

	// ports are the ports that clients connect to. Other ports of the addresses
	// are left alone.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.port == b.port && a.protocol == b.protocol))",message="each port number may be there once for a protocol"
	Ports []ExternalPort `json:"ports"`

	// endpoints are what serves the connections: at an endpoint's own port, else
	// the targetPort, else the port that the client connected to. An IPv4 address
	// is served by IPv4 endpoints only, and IPv6 by IPv6.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Endpoints []ExternalEndpoint `json:"endpoints"`
}

// Address is an IP address that a connection can be made to.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="it must be an IPv4 or IPv6 address"
// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip.isCanonical(self)",message="it must be written in the canonical form: IPv6 in lower case with '::' for the zeros"
// +kubebuilder:validation:XValidation:rule="!isIP(self) || !(ip(self).isUnspecified() || ip(self).isLoopback() || ip(self).isLinkLocalMulticast())",message="it must not be an unspecified, loopback or multicast address"
type Address string

// Protocol is that of a port.
//
// +kubebuilder:validation:Enum=TCP;UDP
type Protocol string

// The protocols.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// ExternalPort is a port that clients connect to.
type ExternalPort struct {
	// name tells the port apart from the others.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// port is the number that clients connect to.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// protocol is TCP or UDP.
	// +optional
	// +kubebuilder:default=TCP
	Protocol Protocol `json:"protocol,omitempty"`

	// targetPort is the port of the endpoints; without it, that of the clients.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TargetPort *int32 `json:"targetPort,omitempty"`
}

// ExternalEndpoint is an address that serves connections.
type ExternalEndpoint struct {
	// address is where the endpoint is.
	// +required
	Address Address `json:"address"`

	// port is the endpoint's port, if it is not the targetPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// ExternalServiceList is a list of ExternalServices.
//
// +kubebuilder:object:root=true
type ExternalServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalService `json:"items"`
}
