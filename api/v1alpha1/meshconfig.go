package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MeshConfigName is the name of the only MeshConfig that there may be.
const MeshConfigName = "default"

// MeshConfig says how the mesh behaves in the whole cluster. There is one, named
// "default"; without it every setting has its default.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=mc,categories=heddle
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="When agent down",type=string,JSONPath=`.spec.podStart.whenAgentDown`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="there is one MeshConfig for the cluster; its name must be 'default'"
type MeshConfig struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the operator wants.
	// +optional
	Spec MeshConfigSpec `json:"spec,omitempty"`
	// status is what became of it.
	// +optional
	Status ObjectStatus `json:"status,omitempty"`
}

// MeshConfigSpec is what the operator wants.
type MeshConfigSpec struct {
	// podStart says what becomes of pods that start on a node while its agent
	// cannot be asked whether they belong to the mesh.
	// +optional
	PodStart *PodStart `json:"podStart,omitempty"`
}

// WhenAgentDown is a way to treat a pod that nobody can be asked about. Letting it
// run outside the mesh is none.
//
// +kubebuilder:validation:Enum=Wait;Drop
type WhenAgentDown string

// The ways.
const (
	Wait WhenAgentDown = "Wait"
	Drop WhenAgentDown = "Drop"
)

// PodStart says what becomes of pods that start while the agent cannot be asked.
type PodStart struct {
	// whenAgentDown is Wait or Drop. Wait: the pod does not start until the
	// agent answers; kubelet tries again. Drop: the pod starts, and its packets
	// are dropped until the agent enrols or releases it. A pod never runs
	// outside the mesh because the agent was away.
	// +optional
	// +kubebuilder:default=Wait
	WhenAgentDown WhenAgentDown `json:"whenAgentDown,omitempty"`

	// exemptNamespaces are namespaces whose pods start all the same, because the
	// cluster needs them to come up. kube-system and the namespace of Heddle are
	// always among them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ExemptNamespaces []string `json:"exemptNamespaces,omitempty"`
}

// ObjectStatus is the status of an object that is not attached to another.
type ObjectStatus struct {
	// conditions are Accepted (the object makes sense and is in force) and
	// Programmed (every node that needs it has acknowledged it; the message
	// counts them).
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MeshConfigList is a list of MeshConfigs.
//
// +kubebuilder:object:root=true
type MeshConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshConfig `json:"items"`
}
