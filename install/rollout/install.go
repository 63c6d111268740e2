package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"heddle.io/heddle/install/manifests"
)

// Request is what is to be installed, and how.
type Request struct {
	manifests.Options
	GatewayCRDs bool // those of Gateway API too
	Wait        bool // until everything is ready
	DryRun      bool // let the API server check everything, and change nothing
}

// Install brings Heddle to what is asked for. Doing it again changes nothing.
// The controller comes before the agents, at the first time and at every other:
// it serves agents of the neighbouring versions, and publishes the authority that
// they mount.
func (c *Cluster) Install(ctx context.Context, r Request) ([]Change, error) {
	stages, err := r.stages()
	if err != nil {
		return nil, err
	}
	var all []Change
	for _, s := range stages {
		if s.crds && !r.DryRun {
			if s.objects, err = c.withoutForeign(ctx, s.objects); err != nil {
				return all, err
			}
		}
		changes, err := c.applyStage(ctx, s, r.DryRun)
		all = append(all, changes...)
		if err != nil {
			return all, err
		}
		if r.DryRun {
			continue
		}
		if err := c.settle(ctx, s, r.Wait); err != nil {
			return all, err
		}
	}
	return all, nil
}

type stage struct {
	crds    bool
	objects []*unstructured.Unstructured
}

// stages are the objects in steps: each needs what the one before has brought.
func (r Request) stages() ([]stage, error) {
	objects, err := manifests.Objects(r.Options)
	if err != nil {
		return nil, err
	}
	crds, err := manifests.CRDs()
	if err != nil {
		return nil, err
	}
	if r.GatewayCRDs {
		gateway, err := manifests.GatewayCRDs()
		if err != nil {
			return nil, err
		}
		crds = append(gateway, crds...)
	}
	agents := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "DaemonSet" })
	if agents < 0 {
		return nil, fmt.Errorf("the manifests have no DaemonSet")
	}
	return []stage{{crds: true, objects: crds}, {objects: objects[:agents]}, {objects: objects[agents:]}}, nil
}

func (c *Cluster) applyStage(ctx context.Context, s stage, dry bool) ([]Change, error) {
	if !dry {
		return c.Apply(ctx, s.objects, false)
	}
	// What lives in a namespace that is not there yet cannot be checked.
	system, err := c.get(ctx, object("v1", "Namespace", "", manifests.Namespace))
	if err != nil || system != nil {
		changes, applyErr := c.Apply(ctx, s.objects, true)
		return changes, firstOf(err, applyErr)
	}
	checkable := slices.DeleteFunc(slices.Clone(s.objects), func(o *unstructured.Unstructured) bool { return o.GetNamespace() != "" })
	return c.Apply(ctx, checkable, true)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) settle(ctx context.Context, s stage, wait bool) error {
	if s.crds {
		return c.Established(ctx, s.objects)
	}
	if !wait {
		return nil
	}
	return c.Ready(ctx, s.objects)
}

// withoutForeign leaves out CRDs that the cluster has from somebody else, of the
// same release or a newer one or of the experimental channel: replacing those
// could take fields away that are in use.
func (c *Cluster) withoutForeign(ctx context.Context, crds []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	const release, channel = "gateway.networking.k8s.io/bundle-version", "gateway.networking.k8s.io/channel"
	var ours []*unstructured.Unstructured
	for _, crd := range crds {
		have, err := c.get(ctx, crd)
		if err != nil {
			return nil, err
		}
		if have != nil && crd.GetAnnotations()[release] != "" {
			version, kind := have.GetAnnotations()[release], have.GetAnnotations()[channel]
			if !managed(have) && (kind == "experimental" || !older(version, crd.GetAnnotations()[release])) {
				c.progress(fmt.Sprintf("%s stays as it is: %s %s", manifests.Name(crd), kind, version))
				continue
			}
		}
		ours = append(ours, crd)
	}
	return ours, nil
}

// managed says that an object was applied by this installer.
func managed(o *unstructured.Unstructured) bool {
	for _, f := range o.GetManagedFields() {
		if f.Manager == manager {
			return true
		}
	}
	return false
}

// Installed is what the cluster has of Heddle.
type Installed struct {
	Controller, Agent string // versions; empty: not there
	Options           manifests.Options
	Cleaning          bool // an uninstallation has begun
}

// Look finds what is installed.
func (c *Cluster) Look(ctx context.Context) (Installed, error) {
	var found Installed
	deployment, err := c.get(ctx, object("apps/v1", "Deployment", manifests.Namespace, manifests.Controller))
	if err != nil {
		return found, err
	}
	daemons, err := c.get(ctx, object("apps/v1", "DaemonSet", manifests.Namespace, manifests.Agent))
	if err != nil {
		return found, err
	}
	if deployment != nil {
		found.Controller = manifests.ImageTag(deployment)
	}
	if daemons != nil {
		found.Agent = manifests.ImageTag(daemons)
		if text := daemons.GetAnnotations()[manifests.OptionsAnnotation]; text != "" {
			if err := json.Unmarshal([]byte(text), &found.Options); err != nil {
				return found, fmt.Errorf("annotation %s of %s is not understood: %w: remove it and name every option", manifests.OptionsAnnotation, manifests.Name(daemons), err)
			}
		}
		init, _, _ := unstructured.NestedSlice(daemons.Object, "spec", "template", "spec", "initContainers")
		found.Cleaning = len(init) > 0
	}
	return found, nil
}
