package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of Heddle's objects.
const GroupName = "policy.heddle.io"

// GroupVersion is the group and version of this package's objects.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// The resources of this package's objects.
var (
	MeshConfigs      = GroupVersion.WithResource("meshconfigs")
	TrafficPolicies  = GroupVersion.WithResource("trafficpolicies")
	ExternalServices = GroupVersion.WithResource("externalservices")
)

// AddToScheme makes a scheme know this package's objects.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&MeshConfig{}, &MeshConfigList{},
		&TrafficPolicy{}, &TrafficPolicyList{},
		&ExternalService{}, &ExternalServiceList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
