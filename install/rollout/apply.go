package rollout

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"heddle.io/heddle/install/manifests"
)

// Change is what became of an object.
type Change struct {
	Object string `json:"object"`
	Change string `json:"change"` // created, configured or unchanged
}

// Apply applies objects in their order. With dry the API server checks each and
// changes nothing. It stops at the first that is refused.
func (c *Cluster) Apply(ctx context.Context, objects []*unstructured.Unstructured, dry bool) ([]Change, error) {
	var changes []Change
	for _, o := range objects {
		change, err := c.apply(ctx, o, dry)
		if err != nil {
			return changes, refused(o, err)
		}
		changes = append(changes, Change{manifests.Name(o), change})
		if change != "unchanged" {
			c.progress(manifests.Name(o) + " " + change)
		}
	}
	return changes, nil
}

func (c *Cluster) apply(ctx context.Context, o *unstructured.Unstructured, dry bool) (string, error) {
	before, err := c.get(ctx, o)
	if err != nil {
		return "", err
	}
	resource, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return "", err
	}
	options := metav1.ApplyOptions{FieldManager: manager, Force: true}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	after, err := resource.Apply(ctx, o.GetName(), o, options)
	switch {
	case err != nil:
		return "", err
	case before == nil:
		return "created", nil
	case before.GetResourceVersion() == after.GetResourceVersion():
		return "unchanged", nil
	}
	return "configured", nil
}

// refused says what to do about an object that the API server does not take.
func refused(o *unstructured.Unstructured, err error) error {
	advice := "correct the option that set it, or report it"
	switch {
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "attempting to grant RBAC permissions"):
		advice = "nobody may give rights that he does not have: install as a cluster administrator"
	case apierrors.IsForbidden(err):
		advice = "install as a cluster administrator (heddlectl check lists what is missing)"
	case apierrors.IsConflict(err):
		advice = "run the same command again"
	}
	return fmt.Errorf("apply %s: %w: %s", manifests.Name(o), err, advice)
}

// Established waits until the API server serves the kinds of CRDs.
func (c *Cluster) Established(ctx context.Context, crds []*unstructured.Unstructured) error {
	return c.poll(ctx, "custom resource definitions", func() (bool, string, error) {
		for _, crd := range crds {
			found, err := c.get(ctx, crd)
			if err != nil {
				return false, "", err
			}
			if found == nil || condition(found, "Established") != "True" {
				return false, crd.GetName() + " is not served yet", nil
			}
		}
		return true, "", nil
	})
}

func condition(o *unstructured.Unstructured, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			status, _ := c["status"].(string)
			return status
		}
	}
	return ""
}
