package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"heddle.io/heddle/install/manifests"
)

// Clean has every node cleaned by a pod of Heddle's own, while connections go on,
// and waits until all are. Nodes that are not ready cannot be.
func (c *Cluster) Clean(ctx context.Context, o manifests.Options) error {
	o.Clean = true
	objects, err := manifests.Objects(o)
	if err != nil {
		return err
	}
	agents := slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() != "DaemonSet" })
	if _, err := c.Apply(ctx, agents, false); err != nil {
		return err
	}
	return c.Ready(ctx, agents)
}

// Remove deletes everything that Install applied, last first, and waits until it
// is gone. The CRDs, with every object of their kinds, go with purge alone.
func (c *Cluster) Remove(ctx context.Context, purge bool) error {
	objects, err := manifests.Objects(manifests.Options{})
	if err != nil {
		return err
	}
	if purge {
		crds, err := manifests.CRDs()
		if err != nil {
			return err
		}
		objects = append(crds, objects...)
	}
	slices.Reverse(objects)
	for _, o := range objects {
		if err := c.delete(ctx, o); err != nil {
			return err
		}
	}
	err = c.poll(ctx, "removal", func() (bool, string, error) {
		for _, o := range objects {
			left, err := c.get(ctx, o)
			if err != nil {
				return false, "", err
			}
			if left != nil {
				return false, "waiting for the end of " + manifests.Name(o), nil
			}
		}
		return true, "", nil
	})
	if err == nil {
		c.progress("removal: all of it is gone")
	}
	return err
}

func (c *Cluster) delete(ctx context.Context, o *unstructured.Unstructured) error {
	resource, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", manifests.Name(o), err)
	}
	background := metav1.DeletePropagationBackground
	err = resource.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("delete %s: %w: heddlectl check lists the rights that are missing", manifests.Name(o), err)
	}
	c.progress(manifests.Name(o) + " deleted")
	return nil
}

// prefix is that of every label by which users talk to Heddle.
const prefix = "heddle.io/"

// Unlabel takes Heddle's labels off namespaces and pods. Those in the templates
// of workloads stay: to change a template restarts its pods.
func (c *Cluster) Unlabel(ctx context.Context) (int, error) {
	count := 0
	for _, kind := range []string{"Namespace", "Pod"} {
		n, err := c.unlabel(ctx, schema.GroupVersionKind{Version: "v1", Kind: kind})
		count += n
		if err != nil {
			return count, fmt.Errorf("take labels off %ss: %w", strings.ToLower(kind), err)
		}
	}
	return count, nil
}

func (c *Cluster) unlabel(ctx context.Context, kind schema.GroupVersionKind) (int, error) {
	everywhere, err := c.resource(kind, "")
	if err != nil {
		return 0, err
	}
	count, options := 0, metav1.ListOptions{Limit: 500}
	for {
		page, err := everywhere.List(ctx, options)
		if err != nil {
			return count, err
		}
		for _, o := range page.Items {
			patch := withoutLabels(o.GetLabels())
			if patch == nil {
				continue
			}
			resource, err := c.resource(kind, o.GetNamespace())
			if err != nil {
				return count, err
			}
			_, err = resource.Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
			if err != nil && !apierrors.IsNotFound(err) {
				return count, fmt.Errorf("%s: %w", manifests.Name(&o), err)
			}
			count++
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return count, nil
		}
	}
}

// withoutLabels is the merge patch that removes Heddle's labels; nil: there are
// none.
func withoutLabels(labels map[string]string) []byte {
	gone := map[string]any{}
	for key := range labels {
		if strings.HasPrefix(key, prefix) {
			gone[key] = nil
		}
	}
	if len(gone) == 0 {
		return nil
	}
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"labels": gone}})
	return patch
}
