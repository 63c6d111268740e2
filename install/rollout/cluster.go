package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"heddle.io/heddle/install/manifests"
)

// manager owns the fields that Heddle's installer sets.
const manager = "heddlectl"

const (
	pollEvery  = 500 * time.Millisecond
	requestQPS = 50
)

// Cluster is a cluster to install into. It is not for concurrent use.
type Cluster struct {
	objects   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	kinds     *restmapper.DeferredDiscoveryRESTMapper
	progress  func(string)
}

// New prepares requests to a cluster; none is sent yet. progress is told what is
// done and what is waited for, a line at a time.
func New(config *rest.Config, progress func(string)) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = requestQPS, 2*requestQPS
	config.WarningHandler = rest.NoWarnings{}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("prepare a client: %w: check the kubeconfig", err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("prepare a client: %w: check the kubeconfig", err)
	}
	cached := memory.NewMemCacheClient(kinds)
	if progress == nil {
		progress = func(string) {}
	}
	return &Cluster{objects, cached, restmapper.NewDeferredDiscoveryRESTMapper(cached), progress}, nil
}

// resource is where objects of an object's kind are. A kind that was made a
// moment ago is looked up again.
func (c *Cluster) resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.kinds.Reset()
		mapping, err = c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return c.objects.Resource(mapping.Resource), nil
	}
	return c.objects.Resource(mapping.Resource).Namespace(namespace), nil
}

// get reads an object as it is in the cluster; nil: there is none.
func (c *Cluster) get(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	resource, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", manifests.Name(o), err)
	}
	found, err := resource.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", manifests.Name(o), err)
	}
	return found, nil
}

// object names an object, for get.
func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// poll asks again and again until done, an error, or the end of ctx. What is
// still waited for is said whenever it changes, and is part of the error.
func (c *Cluster) poll(ctx context.Context, what string, ask func() (done bool, missing string, err error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said := ""
	for {
		done, missing, err := ask()
		if err != nil && ctx.Err() == nil && !transient(err) {
			return err
		}
		if err == nil && done {
			return nil
		}
		if err != nil {
			missing = err.Error()
		}
		if missing != said && missing != "" {
			said = missing
			c.progress(what + ": " + missing)
		}
		select {
		case <-ctx.Done():
			return &Late{What: what, Missing: said, Err: ctx.Err()}
		case <-tick.C:
		}
	}
}

// transient errors are those of an API server that is busy or starts again.
func transient(err error) bool {
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown && !meta.IsNoMatchError(err)
}

// Late says what did not happen in time.
type Late struct {
	What, Missing string
	Err           error
}

func (e *Late) Error() string {
	if errors.Is(e.Err, context.Canceled) {
		return e.What + ": interrupted; run the same command again to go on"
	}
	return fmt.Sprintf("%s is not done in time: %s: heddlectl check says more; run the same command again to go on", e.What, e.Missing)
}

func (e *Late) Unwrap() error { return e.Err }
