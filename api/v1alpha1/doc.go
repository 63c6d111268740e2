// Package v1alpha1 holds Heddle's own Kubernetes objects: MeshConfig,
// TrafficPolicy and ExternalService. They say what Gateway API has no words for;
// routes are Gateway API's own.
//
// The comments of the fields are what `kubectl explain` shows. Whatever a schema
// can check is checked by the API server, so that kubectl names the field that is
// wrong; what depends on other objects is in the status.
//
// Generated code (deepcopy here, the CRDs in api/crd) is committed; `make
// generate` rebuilds it.
//
// +kubebuilder:object:generate=true
// +groupName=policy.heddle.io
package v1alpha1

//go:generate go tool controller-gen object crd:allowDangerousTypes=false paths=. output:crd:dir=../crd
