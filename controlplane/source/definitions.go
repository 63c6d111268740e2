package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const definitionKind = "CustomResourceDefinition"

var definitionResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Reading a definition may take definitionTimeout. What could not be read is tried
// again after definitionRetry.
const (
	definitionTimeout = 10 * time.Second
	definitionRetry   = time.Second
)

// definitions follows the optional kinds as their definitions come and go. Of all
// definitions the metadata are watched, and those of interest are read when they
// change: their schemas are large, and nobody else's matter. Discovery would not
// do: an API server that has just started leaves out what it has not loaded yet,
// which looks as if the kind was gone.
type definitions struct {
	*Kubernetes
	changed chan struct{} // holds one

	mu struct {
		sync.Mutex
		listed   bool              // the API server has told all of them
		versions map[string]string // name -> resource version
	}
}

// A following is the watch of an optional kind. It belongs to the goroutine of
// the definitions.
type following struct {
	*optional
	feed    *feed
	seen    string // resource version of the definition that was read last
	version string // that is watched; empty: none
	stop    func() // ends the watch and waits for it
}

// followDefinitions runs until ctx ends.
func (k *Kubernetes) followDefinitions(ctx context.Context) {
	d := &definitions{Kubernetes: k, changed: make(chan struct{}, 1)}
	d.mu.versions = make(map[string]string)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { track(ctx, k.inbox, definitionKind, d, k.metadata.Resource(definitionResource), "") })

	kinds := make([]*following, len(optionals))
	for n, o := range optionals {
		kinds[n] = &following{optional: o, feed: k.feed(o.kind, o.convert), stop: func() {}}
	}
	retry := time.NewTicker(definitionRetry)
	defer retry.Stop()
	again := true
	for {
		select {
		case <-ctx.Done():
			for _, f := range kinds {
				f.stop()
			}
			return
		case <-d.changed:
		case <-retry.C:
			if !again {
				continue
			}
		}
		again = !d.review(ctx, kinds)
	}
}

// review starts and ends watches as the definitions say. It returns whether all
// of them were read.
func (d *definitions) review(ctx context.Context, kinds []*following) bool {
	d.mu.Lock()
	listed, versions := d.mu.listed, maps.Clone(d.mu.versions)
	d.mu.Unlock()
	if !listed {
		if errors.IsForbidden(d.inbox.contact(definitionKind).err) {
			d.assume(ctx, kinds)
		}
		return false
	}
	complete := true
	for _, f := range kinds {
		now, there := versions[f.crd()]
		switch {
		case !there:
			f.seen = ""
			d.follow(ctx, f, "")
		case now != f.seen:
			version, err := d.served(ctx, f.optional)
			if err != nil {
				d.inbox.note(f.kind, func(c *contact) { c.err = err })
				complete = false
				continue
			}
			f.seen = now
			d.follow(ctx, f, version)
		}
	}
	return complete
}

// assume watches every kind in its best version: without the right to look at
// definitions, that is the only way to find out.
func (d *definitions) assume(ctx context.Context, kinds []*following) {
	for _, f := range kinds {
		if f.version == "" {
			d.start(ctx, f, f.versions[0])
		}
	}
}

// served returns the best version of a kind that is served and understood; empty:
// there is none.
func (d *definitions) served(ctx context.Context, o *optional) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, definitionTimeout)
	defer cancel()
	definition, err := d.dynamic.Resource(definitionResource).Get(ctx, o.crd(), metav1.GetOptions{})
	if errors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading CustomResourceDefinition %s: %w", o.crd(), err)
	}
	if !established(definition) {
		return "", nil
	}
	list, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
	if err != nil {
		return "", fmt.Errorf("reading CustomResourceDefinition %s: %w", o.crd(), err)
	}
	var served []string
	for _, v := range list {
		if version, ok := v.(map[string]any); ok && version["served"] == true {
			name, _ := version["name"].(string)
			served = append(served, name)
		}
	}
	for _, v := range o.versions {
		if slices.Contains(served, v) {
			return v, nil
		}
	}
	return "", nil
}

func established(definition *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
	return slices.ContainsFunc(list, func(c any) bool {
		condition, ok := c.(map[string]any)
		return ok && condition["type"] == "Established" && condition["status"] == "True"
	})
}

// follow makes a version be watched; empty: none, and then there are no objects
// of the kind. When one version takes the place of another, the objects stay.
func (d *definitions) follow(ctx context.Context, f *following, version string) {
	if version != "" && f.version == version {
		return
	}
	f.stop()
	f.stop = func() {}
	f.version = version
	if version != "" {
		d.start(ctx, f, version)
		return
	}
	if len(f.feed.known) > 0 {
		d.log.Warn("a kind is gone, and its objects with it", "kind", f.kind)
	}
	f.feed.forget()
}

func (d *definitions) start(ctx context.Context, f *following, version string) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.version = version
	f.stop = func() { cancel(); <-done }
	resource := d.dynamic.Resource(schema.GroupVersionResource{Group: f.group, Version: version, Resource: f.resource})
	go func() {
		defer close(done)
		track(ctx, d.inbox, f.kind, f.feed, resource, "")
	}()
}

// Add, Update, Delete, Replace and Resync make a cache.ReflectorStore.
func (d *definitions) Add(o any) error { return d.Update(o) }

func (d *definitions) Update(o any) error {
	m, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	d.see(func() { d.mu.versions[m.GetName()] = m.GetResourceVersion() }, m.GetName())
	return nil
}

func (d *definitions) Delete(o any) error {
	m, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	d.see(func() { delete(d.mu.versions, m.GetName()) }, m.GetName())
	return nil
}

func (d *definitions) Replace(list []any, _ string) error {
	versions := make(map[string]string)
	for _, o := range list {
		m, err := meta.Accessor(o)
		if err != nil {
			return err
		}
		if interesting(m.GetName()) {
			versions[m.GetName()] = m.GetResourceVersion()
		}
	}
	d.mu.Lock()
	d.mu.listed, d.mu.versions = true, versions
	d.mu.Unlock()
	d.wake()
	return nil
}

func (d *definitions) Resync() error { return nil }

// see takes a change of a definition into account, if it is of interest.
func (d *definitions) see(change func(), name string) {
	if !interesting(name) {
		return
	}
	d.mu.Lock()
	change()
	d.mu.Unlock()
	d.wake()
}

func (d *definitions) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func interesting(name string) bool {
	return slices.ContainsFunc(optionals, func(o *optional) bool { return o.crd() == name })
}
