package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// The objects directory is the sandbox's API server: one file per object, each
// replaced as a whole, read by the controller.

func (s *Sandbox) objectFile(key string) string {
	return filepath.Join(s.ObjectsDir(), key+".yaml")
}

// write stores an object and says when: just before the controller can see it.
func (s *Sandbox) write(o *object) (time.Time, error) {
	text, err := o.encode()
	if err != nil {
		return time.Time{}, err
	}
	// The half-written file stands outside the directory that is watched.
	tmp := filepath.Join(s.opt.Dir, ".new-"+o.key())
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return time.Time{}, fmt.Errorf("write %s: %w", o, err)
	}
	now := time.Now()
	if err := os.Rename(tmp, s.objectFile(o.key())); err != nil {
		return time.Time{}, fmt.Errorf("write %s: %w", o, err)
	}
	return now, nil
}

// load reads a stored object; nil: there is none.
func (s *Sandbox) load(key string) (*object, error) {
	text, err := os.ReadFile(s.objectFile(key))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", key, err)
	}
	objects, err := parse(text)
	if err != nil || len(objects) != 1 {
		return nil, fmt.Errorf("%s is damaged: apply the object again (%v)", s.objectFile(key), err)
	}
	return objects[0], nil
}

// remove deletes a stored object and says when.
func (s *Sandbox) remove(key string) (time.Time, error) {
	now := time.Now()
	if err := os.Remove(s.objectFile(key)); err != nil && !os.IsNotExist(err) {
		return now, fmt.Errorf("remove object %s: %w", key, err)
	}
	return now, nil
}

// keys are those of the stored objects of a kind ("" for all) and a namespace
// ("" for all).
func (s *Sandbox) keys(kind, namespace string) ([]string, error) {
	entries, err := os.ReadDir(s.ObjectsDir())
	if err != nil {
		return nil, fmt.Errorf("list the sandbox's objects: %w", err)
	}
	var out []string
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), ".yaml")
		part := strings.Split(key, "_")
		if ok && len(part) == 3 && (kind == "" || part[0] == kind) && (namespace == "" || part[1] == namespace) {
			out = append(out, key)
		}
	}
	return out, nil
}

// services are the stored Services of a namespace ("" for all).
func (s *Sandbox) services(namespace string) ([]*corev1.Service, error) {
	keys, err := s.keys("service", namespace)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Service
	for _, key := range keys {
		o, err := s.load(key)
		if err != nil {
			return nil, err
		}
		if o != nil && o.service != nil {
			out = append(out, o.service)
		}
	}
	return out, nil
}

// Service is a stored Service with its addresses.
func (s *Sandbox) Service(namespace, name string) (*corev1.Service, error) {
	o, err := s.load((&object{kind: "Service", namespace: namespace, name: name}).key())
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, fmt.Errorf("no Service %s/%s in sandbox %s", namespace, name, s.opt.Name)
	}
	return o.service, nil
}

// writeNodes stores the Node objects and the namespaces that always exist.
func (s *Sandbox) writeNodes() error {
	defaults := []any{&corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
	}}
	for _, n := range nodes {
		defaults = append(defaults, nodeObject(n))
	}
	for _, d := range defaults {
		text, err := yaml.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode a Node: %w", err)
		}
		objects, err := parse(text)
		if err != nil {
			return err
		}
		o := objects[0]
		before, err := s.load(o.key())
		if err != nil {
			return err
		}
		if before != nil {
			continue // labels may have been added
		}
		delete(o.metadata(), "creationTimestamp") // the zero time's null
		o.born(nil, time.Now())
		if _, err := s.write(o); err != nil {
			return err
		}
	}
	return nil
}

func nodeObject(n node) *corev1.Node {
	out := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{
			"kubernetes.io/hostname":      n.name,
			"topology.kubernetes.io/zone": n.zone,
		}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "SandboxUp",
		}}},
	}
	for _, p := range n.podNets() {
		out.Spec.PodCIDRs = append(out.Spec.PodCIDRs, p.String())
	}
	out.Spec.PodCIDR = out.Spec.PodCIDRs[0]
	for _, a := range n.addresses() {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return out
}

func typedMeta(uid, created string) (types.UID, metav1.Time) {
	t, err := time.Parse(time.RFC3339, created)
	if err != nil {
		t = time.Now().Truncate(time.Second)
	}
	return types.UID(uid), metav1.NewTime(t)
}
