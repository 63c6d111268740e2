package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heddle.io/heddle/install/manifests"
)

// ServerVersion is the API server's version, "1.37.0".
func (c *Cluster) ServerVersion() (string, error) {
	v, err := c.discovery.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("the API server does not answer: %w", err)
	}
	return strings.TrimPrefix(v.GitVersion, "v"), nil
}

// Denied lists what the caller may not do that an installation does: what the
// manifests create, and the rights that they hand on.
func (c *Cluster) Denied(ctx context.Context) ([]string, error) {
	objects, err := manifests.Objects(manifests.Options{})
	if err != nil {
		return nil, err
	}
	crds, err := manifests.CRDs()
	if err != nil {
		return nil, err
	}
	var denied []string
	asked := map[schema.GroupKind]bool{}
	for _, o := range append(crds, objects...) {
		kind := o.GroupVersionKind()
		mapping, err := c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return denied, err
		}
		if asked[kind.GroupKind()] {
			continue
		}
		asked[kind.GroupKind()] = true
		for _, verb := range []string{"get", "create", "patch", "delete"} {
			ok, err := c.allowed(ctx, verb, mapping.Resource, o.GetNamespace())
			if err != nil {
				return denied, err
			}
			if !ok {
				denied = append(denied, verb+" "+mapping.Resource.GroupResource().String())
			}
		}
	}
	escalate := schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	if ok, err := c.allowed(ctx, "escalate", escalate, ""); err == nil && !ok {
		// Fine for those who have every right that they hand on, which only the
		// API server can tell.
		if all, err := c.allowed(ctx, "*", schema.GroupVersionResource{Group: "*", Version: "*", Resource: "*"}, ""); err == nil && !all {
			denied = append(denied, "escalate "+escalate.GroupResource().String())
		}
	}
	return denied, nil
}

func (c *Cluster) allowed(ctx context.Context, verb string, r schema.GroupVersionResource, namespace string) (bool, error) {
	review := object("authorization.k8s.io/v1", "SelfSubjectAccessReview", "", "")
	attributes := map[string]any{"verb": verb, "group": r.Group, "version": r.Version, "resource": r.Resource, "namespace": namespace}
	if err := unstructured.SetNestedMap(review.Object, map[string]any{"resourceAttributes": attributes}, "spec"); err != nil {
		return false, err
	}
	resource, err := c.resource(review.GroupVersionKind(), "")
	if err != nil {
		return false, err
	}
	answer, err := resource.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	ok, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return ok, err
}

// ServedCRDs are the custom resource definitions of the cluster and the versions
// that each serves.
func (c *Cluster) ServedCRDs(ctx context.Context) (map[string][]string, error) {
	served := map[string][]string{}
	err := c.each(ctx, schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, func(o *unstructured.Unstructured) {
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		served[o.GetName()] = []string{}
		for _, v := range versions {
			if v, ok := v.(map[string]any); ok && v["served"] == true {
				name, _ := v["name"].(string)
				served[o.GetName()] = append(served[o.GetName()], name)
			}
		}
	})
	return served, err
}

// SystemLabels are the labels of Heddle's namespace; nil: there is none.
func (c *Cluster) SystemLabels(ctx context.Context) map[string]string {
	found, err := c.get(ctx, object("v1", "Namespace", "", manifests.Namespace))
	if err != nil || found == nil {
		return nil
	}
	if labels := found.GetLabels(); labels != nil {
		return labels
	}
	return map[string]string{}
}

// meshes are the workloads by which others are known that decide about
// connections of pods.
var meshes = map[string]string{
	"ztunnel": "Istio ambient (DaemonSet ztunnel)", "istio-cni-node": "Istio (DaemonSet istio-cni-node)",
	"linkerd-cni": "Linkerd (DaemonSet linkerd-cni)", "kuma-cni-node": "Kuma (DaemonSet kuma-cni-node)",
	"kmesh": "Kmesh (DaemonSet kmesh)", "cilium": "Cilium, whose own service load balancing comes first for pods (DaemonSet cilium)",
}

// injection is how namespaces ask other meshes for sidecars or capture.
var injection = map[string]string{
	"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient", "kuma.io/sidecar-injection": "enabled",
}

// Meshes names other meshes in the cluster.
func (c *Cluster) Meshes(ctx context.Context) []string {
	var found []string
	err := c.each(ctx, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}, func(o *unstructured.Unstructured) {
		if name := meshes[o.GetName()]; name != "" {
			found = append(found, name)
		}
	})
	namespacesErr := c.each(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, func(o *unstructured.Unstructured) {
		for key, value := range injection {
			if o.GetLabels()[key] == value && o.GetLabels()["heddle.io/mesh"] == "enabled" {
				found = append(found, fmt.Sprintf("namespace %s is in Heddle and has %s=%s", o.GetName(), key, value))
			}
		}
	})
	if err := errors.Join(err, namespacesErr); err != nil {
		found = append(found, "cannot be looked up: "+err.Error())
	}
	slices.Sort(found)
	return found
}

// each calls do with every object of a kind, page by page.
func (c *Cluster) each(ctx context.Context, kind schema.GroupVersionKind, do func(*unstructured.Unstructured)) error {
	resource, err := c.resource(kind, "")
	if err != nil {
		return err
	}
	options := metav1.ListOptions{Limit: 500}
	for {
		page, err := resource.List(ctx, options)
		if err != nil {
			return fmt.Errorf("list %ss: %w", kind.Kind, err)
		}
		for i := range page.Items {
			do(&page.Items[i])
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// Workloads are how far the controller and the agents are; nil: not there.
func (c *Cluster) Workloads(ctx context.Context) (controller, agent *Workload) {
	measure := func(kind, name string) *Workload {
		found, err := c.get(ctx, object("apps/v1", kind, manifests.Namespace, name))
		if err != nil || found == nil {
			return nil
		}
		w := Measure(found)
		return &w
	}
	return measure("Deployment", manifests.Controller), measure("DaemonSet", manifests.Agent)
}

// Leader is the pod that holds the controllers' lease; empty: nobody.
func (c *Cluster) Leader(ctx context.Context) string {
	lease, err := c.get(ctx, object("coordination.k8s.io/v1", "Lease", manifests.Namespace, manifests.Controller))
	if err != nil || lease == nil {
		return ""
	}
	holder, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	return holder
}
