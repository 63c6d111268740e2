package source

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"heddle.io/heddle/api/v1alpha1"
	"heddle.io/heddle/controlplane/model"
)

// notFinished leaves out pods that ended: they have no addresses and no
// processes, so to the mesh they are gone.
const notFinished = "status.phase!=Succeeded,status.phase!=Failed"

// An optional kind has a CustomResourceDefinition, which may not be installed.
type optional struct {
	kind     string
	group    string
	resource string
	versions []string // that are understood, the best first
	convert  func(runtime.Object) (*object, error)
}

// crd is the name of its CustomResourceDefinition.
func (o *optional) crd() string { return o.resource + "." + o.group }

var optionals = []*optional{
	{tcpRouteKind, gatewayv1.GroupName, "tcproutes", []string{"v1", "v1alpha2"}, fromCustom(convertTCPRoute)},
	{tlsRouteKind, gatewayv1.GroupName, "tlsroutes", []string{"v1", "v1alpha3", "v1alpha2"}, fromCustom(convertTLSRoute)},
	{httpRouteKind, gatewayv1.GroupName, "httproutes", []string{"v1", "v1beta1"}, fromCustom(convertHTTPRoute)},
	{grpcRouteKind, gatewayv1.GroupName, "grpcroutes", []string{"v1"}, fromCustom(convertGRPCRoute)},
	{grantKind, gatewayv1.GroupName, "referencegrants", []string{"v1", "v1beta1"}, fromCustom(convertGrant)},
	{meshKind, v1alpha1.GroupName, "meshconfigs", []string{"v1alpha1"}, fromCustom(convertMeshConfig)},
	{policyKind, v1alpha1.GroupName, "trafficpolicies", []string{"v1alpha1"}, fromCustom(convertPolicy)},
	{externalKind, v1alpha1.GroupName, "externalservices", []string{"v1alpha1"}, fromCustom(convertExternal)},
}

// fromTyped converts an object as the API server's client has decoded it.
func fromTyped[T any, P interface {
	*T
	runtime.Object
}](convert func(*T) (*object, error)) func(runtime.Object) (*object, error) {
	return func(o runtime.Object) (*object, error) {
		in, ok := o.(P)
		if !ok {
			return nil, fmt.Errorf("the API server sent a %T", o)
		}
		return convert(in)
	}
}

// fromMetadata converts what needs no more of an object than its metadata.
func fromMetadata[T any](make func(metav1.ObjectMeta) *T, convert func(*T) (*object, error)) func(runtime.Object) (*object, error) {
	return func(o runtime.Object) (*object, error) {
		in, ok := o.(*metav1.PartialObjectMetadata)
		if !ok {
			return nil, fmt.Errorf("the API server sent a %T", o)
		}
		return convert(make(in.ObjectMeta))
	}
}

func namespaceOf(m metav1.ObjectMeta) *corev1.Namespace { return &corev1.Namespace{ObjectMeta: m} }
func nodeOf(m metav1.ObjectMeta) *corev1.Node           { return &corev1.Node{ObjectMeta: m} }

// fromCustom converts an object of a CustomResourceDefinition. A field of its spec
// that is not known here comes from a newer one, and what it means cannot be
// guessed: the object is refused, and its last good version stays.
func fromCustom[T any](convert func(*T) (*object, error)) func(runtime.Object) (*object, error) {
	return func(o runtime.Object) (*object, error) {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("the API server sent a %T", o)
		}
		metadata := map[string]any{"name": u.GetName(), "generation": u.GetGeneration()}
		if namespace := u.GetNamespace(); namespace != "" {
			metadata["namespace"] = namespace
		}
		if created, ok, err := unstructured.NestedString(u.Object, "metadata", "creationTimestamp"); err == nil && ok {
			metadata["creationTimestamp"] = created
		}
		relevant := map[string]any{"metadata": metadata}
		if spec, ok := u.Object["spec"]; ok {
			relevant["spec"] = spec
		}
		in := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(relevant, in, true); err != nil {
			return nil, err
		}
		return convert(in)
	}
}

// slimPod converts a pod, and leaves out what only a Service without
// EndpointSlices asks for. An API server has slices of every Service, so a pod
// that becomes ready is no change here: its slice is one.
func slimPod(in *corev1.Pod) (*object, error) {
	o, err := convertPod(in)
	if err != nil {
		return nil, err
	}
	p := o.Pod
	p.Ready, p.Ports = false, nil
	labels := make(map[string]string)
	for _, name := range []string{model.MeshLabel, model.BypassLabel} {
		if value, ok := p.Labels[name]; ok {
			labels[name] = value
		}
	}
	if p.Labels = nil; len(labels) > 0 {
		p.Labels = labels
	}
	return o, nil
}
