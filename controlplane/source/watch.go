package source

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"heddle.io/heddle/controlplane/model"
)

// lister lists and watches a resource, in all namespaces.
type lister[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// A feed turns a kind of objects of the API server into changes in the inbox. It
// is what a client-go reflector fills in place of a cache: only the model of an
// object is kept, once, and not the object. One reflector uses it at a time.
type feed struct {
	kind    string
	inbox   *inbox
	convert func(runtime.Object) (*object, error)
	known   map[id]bool // what the inbox was told about
}

// track lists and watches until ctx ends. When the API server cannot be reached
// it tries again, for ever, and what is known stays.
func track[L runtime.Object](ctx context.Context, b *inbox, kind string, store cache.ReflectorStore, l lister[L], fields string) {
	answered := func(err error) {
		// A watch that begins too far back is refused, and begins anew: nothing is
		// wrong.
		if ctx.Err() == nil && !errors.IsResourceExpired(err) && !errors.IsGone(err) {
			b.note(kind, func(c *contact) { c.err = err })
		}
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = fields
			list, err := l.List(ctx, o)
			answered(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = fields
			w, err := l.Watch(ctx, o)
			// A server that does not stream lists says no, and is asked for
			// a plain list next, which tells.
			if o.SendInitialEvents == nil || errors.ReasonForError(err) == metav1.StatusReasonUnknown {
				answered(err)
			}
			return w, err
		},
	}
	var quiet klog.Logger // errors are in the contact
	r := cache.NewReflectorWithOptions(lw, nil, store, cache.ReflectorOptions{
		Name: kind, TypeDescription: kind, Logger: &quiet,
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 5 * time.Second},
	})
	r.RunWithContext(klog.NewContext(ctx, quiet))
}

// Add, Update, Delete, Replace and Resync make a cache.ReflectorStore.
func (f *feed) Add(o any) error { return f.Update(o) }

func (f *feed) Update(o any) error {
	i, c, err := f.read(o)
	if err != nil {
		return err
	}
	f.known[i] = true
	f.inbox.leave(map[id]change{i: c})
	return nil
}

func (f *feed) Delete(o any) error {
	i, err := f.id(o)
	if err != nil {
		return err
	}
	delete(f.known, i)
	f.inbox.leave(map[id]change{i: {}})
	return nil
}

// Replace takes all objects that there are. The reader sees all of them at once.
func (f *feed) Replace(list []any, _ string) error {
	changes := make(map[id]change, len(list))
	for _, o := range list {
		i, c, err := f.read(o)
		if err != nil {
			return err
		}
		changes[i] = c
	}
	known := make(map[id]bool, len(list))
	for i := range changes {
		known[i] = true
	}
	for i := range f.known {
		if !known[i] {
			changes[i] = change{}
		}
	}
	f.known = known
	f.inbox.leave(changes)
	f.inbox.note(f.kind, func(c *contact) { c.synced, c.absent = true, false })
	return nil
}

func (f *feed) Resync() error { return nil }

// forget is for a kind that is not there any more, and its objects with it.
func (f *feed) forget() {
	changes := make(map[id]change, len(f.known))
	for i := range f.known {
		changes[i] = change{}
	}
	clear(f.known)
	f.inbox.leave(changes)
	f.inbox.note(f.kind, func(c *contact) { *c = contact{absent: true} })
}

func (f *feed) id(o any) (id, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return id{}, fmt.Errorf("reading a %s: %w", f.kind, err)
	}
	return id{f.kind, model.Key{Namespace: m.GetNamespace(), Name: m.GetName()}}, nil
}

func (f *feed) read(o any) (id, change, error) {
	i, err := f.id(o)
	if err != nil {
		return i, change{}, err
	}
	converted, err := f.convert(o.(runtime.Object))
	if err != nil {
		return i, change{complaint: complaint{"Invalid", err}}, nil
	}
	return i, change{object: converted}, nil
}
