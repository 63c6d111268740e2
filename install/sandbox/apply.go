package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Change is what became of one object of a manifest.
type Change struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace,omitempty"` // empty for a Namespace or Node
	Name      string    `json:"name"`
	Action    string    `json:"action"`           // created, configured, unchanged, deleted
	Written   time.Time `json:"written"`          // just before the controller could see it; zero when unchanged
	Detail    string    `json:"detail,omitempty"` // for people: where a pod runs, what was left out
}

// work is an object on its way: admitted, then written, then started.
type work struct {
	obj    *object
	before *object   // as stored; nil: new
	start  *podState // a pod that is to be started; nil: nothing is
	change Change
}

// Apply makes the objects of a manifest so, as `kubectl apply` does, and waits
// until new pods are ready. A manifest of which one object is refused changes
// nothing; a pod that does not start is reported and leaves the others alone.
// The changes made are returned with the error.
func (s *Sandbox) Apply(ctx context.Context, manifest []byte) ([]Change, error) {
	objects, err := parse(manifest)
	if err != nil {
		return nil, err
	}
	x, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer x.close()
	list, err := x.admit(ctx, objects)
	if err != nil {
		return nil, err
	}
	err = x.writeAll(list)
	if err == nil {
		err = x.startAll(ctx, list)
	}
	var out []Change
	for _, w := range list {
		if w.change.Action != "" {
			out = append(out, w.change)
		}
	}
	return out, err
}

// admit checks and completes every object before the first is written.
func (x *session) admit(ctx context.Context, objects []*object) ([]*work, error) {
	made := map[string]bool{}
	for _, o := range objects {
		made[o.key()] = true
	}
	existing, err := x.s.services("")
	if err != nil {
		return nil, err
	}
	ips := newClusterIPs(x.st.LastService, existing)
	var list []*work
	for _, o := range objects {
		w := &work{obj: o, change: Change{Kind: o.kind, Namespace: o.namespace, Name: o.name}}
		if w.before, err = x.s.load(o.key()); err != nil {
			return nil, err
		}
		if err := x.admitNamespace(o, made); err != nil {
			return nil, err
		}
		o.born(w.before, time.Now())
		switch {
		case o.service != nil:
			var before *corev1.Service
			if w.before != nil {
				before = w.before.service
			}
			err = ips.complete(o.service, before)
		case o.pod != nil:
			err = x.admitPod(ctx, w)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, x.update(func(st *state) { st.LastService = ips.last })
}

func (x *session) admitNamespace(o *object, made map[string]bool) error {
	if o.namespace == "" {
		return nil
	}
	key := (&object{kind: "Namespace", name: o.namespace}).key()
	if made[key] {
		return nil
	}
	if _, err := os.Stat(x.s.objectFile(key)); err != nil {
		return fmt.Errorf("%s: namespace %s does not exist: add a Namespace object (its label heddle.io/mesh=enabled puts its pods into the mesh)", o, o.namespace)
	}
	return nil
}

// admitPod checks a pod, and compares it with the one that may run already.
func (x *session) admitPod(ctx context.Context, w *work) error {
	pod := w.obj.pod
	ignored, err := admitPod(pod)
	if err != nil {
		return err
	}
	if len(ignored) > 0 {
		w.change.Detail = "left out: " + strings.Join(ignored, ", ")
	}
	p := x.st.Pods[pod.Namespace+"/"+pod.Name]
	if p == nil {
		return nil
	}
	hash, err := specHash(&pod.Spec)
	if err != nil {
		return fmt.Errorf("%s: %w", w.obj, err)
	}
	switch {
	case p.Phase != phaseRunning || !p.alive():
		// What is left of one that failed makes way.
		w.before = nil
		return x.deletePod(ctx, p)
	case hash != p.Spec:
		return fmt.Errorf("%s runs with another spec, and the spec of a Pod does not change: delete it first", w.obj)
	}
	// Labels and annotations may have changed; the rest stays.
	pod.Status = w.before.pod.Status
	describePod(pod, p, time.Now())
	return nil
}

// writeAll stores what is new or different.
func (x *session) writeAll(list []*work) error {
	for _, w := range list {
		if w.obj.pod != nil && w.before == nil {
			if err := x.placePod(w); err != nil {
				return err
			}
		}
		w.change.Action = "created"
		if w.before != nil {
			w.change.Action = "configured"
			if same, err := equal(w.before, w.obj); err != nil {
				return err
			} else if same {
				w.change.Action = "unchanged"
				continue
			}
		}
		written, err := x.s.write(w.obj)
		if err != nil {
			return err
		}
		w.change.Written = written
	}
	return nil
}

// placePod gives a new pod its node and addresses, and remembers it.
func (x *session) placePod(w *work) error {
	var err error
	saved := x.update(func(st *state) {
		if w.start, err = st.place(w.obj.pod); err == nil {
			st.Pods[w.start.key()] = w.start
		}
	})
	if err = errors.Join(err, saved); err != nil {
		return fmt.Errorf("%s: %w", w.obj, err)
	}
	describePod(w.obj.pod, w.start, time.Now())
	return nil
}

func equal(a, b *object) (bool, error) {
	left, err := a.encode()
	if err != nil {
		return false, err
	}
	right, err := b.encode()
	return bytes.Equal(left, right), err
}

// Starting a pod is mostly waiting: for the agent, for the program.
const startsAtOnce = 8

// startAll starts the new pods and waits until they are ready.
func (x *session) startAll(ctx context.Context, list []*work) error {
	services, err := x.s.services("")
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, startsAtOnce)
	errs := make([]error, len(list))
	for i, w := range list {
		if w.start == nil {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var own []*corev1.Service
			for _, svc := range services {
				if svc.Namespace == w.obj.namespace {
					own = append(own, svc)
				}
			}
			errs[i] = x.startPod(ctx, w, own)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
