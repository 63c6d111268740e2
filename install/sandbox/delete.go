package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// gracePeriod is how long a pod's processes have after SIGTERM when its spec
// does not say. Kubernetes has 30 s; people wait here.
const gracePeriod = 2 * time.Second

// Delete removes the objects of a manifest, in the reverse order of Apply. Of
// each only apiVersion, kind, name and namespace count; one that does not
// exist is no error. A Namespace takes its objects with it.
func (s *Sandbox) Delete(ctx context.Context, manifest []byte) ([]Change, error) {
	objects, err := parse(manifest)
	if err != nil {
		return nil, err
	}
	x, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer x.close()
	slices.Reverse(objects)
	var out []Change
	for _, o := range objects {
		keys := []string{o.key()}
		if o.kind == "Namespace" {
			inside, err := s.keys("", o.name)
			if err != nil {
				return out, err
			}
			keys = append(inside, keys...)
		}
		for _, key := range keys {
			c, err := x.deleteObject(ctx, key)
			if c != nil {
				out = append(out, *c)
			}
			if err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// DeletePod removes one pod.
func (s *Sandbox) DeletePod(ctx context.Context, namespace, name string) error {
	x, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	p := x.st.Pods[namespace+"/"+name]
	if p == nil {
		return noPod(namespace+"/"+name, s.opt.Name)
	}
	return x.deletePod(ctx, p)
}

// deleteObject removes a stored object; nil: there was none.
func (x *session) deleteObject(ctx context.Context, key string) (*Change, error) {
	o, err := x.s.load(key)
	if err != nil || o == nil {
		return nil, err
	}
	c := &Change{Kind: o.kind, Namespace: o.namespace, Name: o.name, Action: "deleted", Written: time.Now()}
	if p := x.st.Pods[o.namespace+"/"+o.name]; o.kind == "Pod" && p != nil {
		return c, x.deletePod(ctx, p)
	}
	c.Written, err = x.s.remove(key)
	return c, err
}

// deletePod ends a pod as kubelet does: it is marked as terminating, so that
// its endpoints drain; then preStop, SIGTERM, SIGKILL; then all of it goes.
func (x *session) deletePod(ctx context.Context, p *podState) error {
	key := (&object{kind: "Pod", namespace: p.Namespace, name: p.Name}).key()
	o, err := x.s.load(key)
	if err != nil {
		return err
	}
	grace := gracePeriod
	if o != nil && o.pod != nil {
		now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
		o.pod.DeletionTimestamp = &now
		if _, err := x.s.write(o); err != nil {
			return err
		}
		if err := preStop(ctx, &o.pod.Spec); err != nil {
			return err
		}
		if g := o.pod.Spec.TerminationGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
	}
	if err := emptyCgroup(ctx, podCgroup(x.root, p), grace); err != nil {
		return err
	}
	if _, err := x.s.remove(key); err != nil {
		return err
	}
	if err := x.unmakePod(ctx, p); err != nil {
		return fmt.Errorf("Pod %s: %w", p.key(), err)
	}
	return x.update(func(st *state) { delete(st.Pods, p.key()) })
}

// unmakePod takes the pod's world away. An agent that does not answer learns
// of it when it sweeps for interfaces that are gone.
func (x *session) unmakePod(ctx context.Context, p *podState) error {
	if !p.HostNetwork {
		if x.st.Nodes[p.Node].Agent.Alive() {
			if err := x.s.Agent(p.Node).Forget(ctx, p.Namespace, p.Name); err != nil {
				x.s.progress("the agent of %s was not told that pod %s is gone: %v", p.Node, p.key(), err)
			}
		}
		if err := removeNetns(x.s.podNetns(p.Namespace, p.Name)); err != nil {
			return err
		}
	}
	return removeCgroup(ctx, podCgroup(x.root, p))
}

// preStop waits as long as the longest preStop sleep of the containers.
func preStop(ctx context.Context, spec *corev1.PodSpec) error {
	var wait time.Duration
	for _, c := range spec.Containers {
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
			wait = max(wait, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second)
		}
	}
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Down takes the sandbox down and removes everything that carries its name,
// whether or not it is in the state file: it also cleans up after an Up that
// was killed half-way. Taking down what is not up is no error.
func (s *Sandbox) Down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("sandboxes belong to root: run this as root")
	}
	root, err := s.cgroupRoot()
	if err != nil {
		return err
	}
	x, err := s.lock(ctx)
	var notUp *NotUp
	if err != nil && !errors.As(err, &notUp) {
		return err
	}
	if x != nil {
		defer x.close()
	}
	// Everything is tried: one thing that stays must not keep the others.
	return errors.Join(
		emptyCgroup(ctx, root, gracePeriod),
		removeTree(s.pinsRoot()), // the links go with their pins, so the hooks detach
		s.removeAllNetns(),
		removeCgroup(ctx, root),
		removeTree(s.opt.Dir),
	)
}

// removeAllNetns removes the namespaces that carry the sandbox's name.
func (s *Sandbox) removeAllNetns() error {
	names, err := listNetns()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		// The underscore tells "a-pod-ns_name" from sandbox "a-x"'s names.
		pod := strings.HasPrefix(name, s.opt.Name+"-pod-") && strings.Contains(name, "_")
		own := slices.ContainsFunc(nodes, func(n node) bool { return name == s.nodeNetns(n.name) })
		if pod || own {
			errs = append(errs, removeNetns(name))
		}
	}
	return errors.Join(errs...)
}
