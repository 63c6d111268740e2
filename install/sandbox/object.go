package sandbox

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Bounds of what is read. A manifest is written by hand.
const (
	maxManifest = 4 << 20
	maxObjects  = 1000
)

// object is one Kubernetes object of a manifest. Pods and Services are typed,
// because the sandbox plays them; all others travel as they are.
type object struct {
	apiVersion string
	kind       string
	namespace  string // empty for a Namespace or Node
	name       string
	raw        map[string]any
	pod        *corev1.Pod
	service    *corev1.Service
}

func (o *object) String() string {
	if o.namespace == "" {
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.namespace + "/" + o.name
}

// key is the object's identity, and the stem of its file's name: none of the
// parts can contain an underscore.
func (o *object) key() string {
	return strings.ToLower(o.kind) + "_" + o.namespace + "_" + o.name
}

// rank orders a manifest: what others refer to comes first.
func (o *object) rank() int {
	switch o.kind {
	case "Namespace", "Node":
		return 0
	case "Service":
		return 1
	case "Pod":
		return 3
	}
	return 2
}

// parse reads a manifest: YAML documents or JSON, Lists included. It returns
// the objects in the order in which they should be made.
func parse(manifest []byte) ([]*object, error) {
	if len(manifest) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, at most %d are read", len(manifest), maxManifest)
	}
	var out []*object
	for i, doc := range documents(manifest) {
		var raw map[string]any
		if err := yaml.Unmarshal(doc, &raw); err != nil {
			return nil, fmt.Errorf("document %d of the manifest: %w", i+1, err)
		}
		if raw == nil {
			continue // nothing but comments
		}
		objects, err := fromRaw(raw)
		if err != nil {
			return nil, fmt.Errorf("document %d of the manifest: %w", i+1, err)
		}
		if out = append(out, objects...); len(out) > maxObjects {
			return nil, fmt.Errorf("the manifest has more than %d objects", maxObjects)
		}
	}
	seen := map[string]bool{}
	for _, o := range out {
		if seen[o.key()] {
			return nil, fmt.Errorf("%s is in the manifest twice", o)
		}
		seen[o.key()] = true
	}
	slices.SortStableFunc(out, func(a, b *object) int { return a.rank() - b.rank() })
	return out, nil
}

var separator = regexp.MustCompile(`(?m)^---([ \t].*)?\r?$`)

func documents(manifest []byte) [][]byte {
	var out [][]byte
	for _, doc := range separator.Split(string(manifest), -1) {
		if strings.TrimSpace(doc) != "" {
			out = append(out, []byte(doc))
		}
	}
	return out
}

// fromRaw makes objects of one document.
func fromRaw(raw map[string]any) ([]*object, error) {
	kind, _ := raw["kind"].(string)
	if kind == "List" {
		var out []*object
		items, _ := raw["items"].([]any)
		for _, item := range items {
			fields, ok := item.(map[string]any)
			if !ok || fields["kind"] == "List" {
				return nil, errors.New("a List holds objects, nothing else")
			}
			objects, err := fromRaw(fields)
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
		return out, nil
	}
	o := &object{kind: kind, raw: raw}
	o.apiVersion, _ = raw["apiVersion"].(string)
	if o.kind == "" || o.apiVersion == "" {
		return nil, errors.New("apiVersion and kind are required")
	}
	if err := o.admitKind(); err != nil {
		return nil, err
	}
	if err := o.admitName(); err != nil {
		return nil, err
	}
	return []*object{o}, o.decode()
}

// admitKind refuses what would silently do nothing here.
func (o *object) admitKind() error {
	group, _, _ := strings.Cut(o.apiVersion, "/")
	switch {
	case o.apiVersion == "v1" && slices.Contains([]string{"Namespace", "Node", "Pod", "Service"}, o.kind),
		o.apiVersion == "discovery.k8s.io/v1" && o.kind == "EndpointSlice",
		group == "gateway.networking.k8s.io",
		group == "heddle.io" || strings.HasSuffix(group, ".heddle.io"):
		return nil
	case slices.Contains([]string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"}, o.kind):
		return fmt.Errorf("kind %s: the sandbox has no controllers that make Pods; write the Pods themselves", o.kind)
	}
	return fmt.Errorf("kind %s of %s is unknown here: the sandbox takes Namespace, Node, Pod, Service, EndpointSlice and the kinds of gateway.networking.k8s.io and heddle.io", o.kind, o.apiVersion)
}

var objectNameRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// admitName checks the name and namespace, which become file and namespace
// names, and fills in the default namespace.
func (o *object) admitName() error {
	meta, _ := o.raw["metadata"].(map[string]any)
	o.name, _ = meta["name"].(string)
	o.namespace, _ = meta["namespace"].(string)
	cluster := o.kind == "Namespace" || o.kind == "Node" || o.kind == "GatewayClass"
	switch {
	case !objectNameRE.MatchString(o.name):
		return fmt.Errorf("%s: metadata.name %q is no valid name", o.kind, o.name)
	case cluster && o.namespace != "":
		return fmt.Errorf("%s %s: has no namespace", o.kind, o.name)
	case !cluster && o.namespace == "":
		o.namespace = "default"
		meta["namespace"] = o.namespace
	}
	if o.namespace != "" && (!objectNameRE.MatchString(o.namespace) || strings.Contains(o.namespace, ".")) {
		return fmt.Errorf("%s %s: metadata.namespace %q is no valid name", o.kind, o.name, o.namespace)
	}
	return nil
}

// decode gives Pods and Services their type. A field that does not exist is an
// error, because a typing mistake would otherwise do nothing.
func (o *object) decode() error {
	var into any
	switch o.kind {
	case "Pod":
		o.pod = &corev1.Pod{}
		into = o.pod
	case "Service":
		o.service = &corev1.Service{}
		into = o.service
	default:
		return nil
	}
	text, err := yaml.Marshal(o.raw)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	return nil
}

// encode is the object as it is written for the controller.
func (o *object) encode() ([]byte, error) {
	var from any = o.raw
	switch {
	case o.pod != nil:
		from = o.pod
	case o.service != nil:
		from = o.service
	}
	text, err := yaml.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	return text, nil
}

// born gives the object what the API server does at creation, or what it had
// when it was created before.
func (o *object) born(before *object, now time.Time) {
	uid, created := newUID(), now.UTC().Format(time.RFC3339)
	if before != nil {
		meta := before.metadata()
		if s, ok := meta["uid"].(string); ok {
			uid = s
		}
		if s, ok := meta["creationTimestamp"].(string); ok {
			created = s
		}
	}
	switch {
	case o.pod != nil:
		o.pod.UID, o.pod.CreationTimestamp = typedMeta(uid, created)
	case o.service != nil:
		o.service.UID, o.service.CreationTimestamp = typedMeta(uid, created)
	default:
		meta := maps.Clone(o.metadata())
		meta["uid"] = uid
		// A manifest may say when it was created: routes are ordered by it.
		if meta["creationTimestamp"] == nil {
			meta["creationTimestamp"] = created
		}
		o.raw["metadata"] = meta
	}
}

func (o *object) metadata() map[string]any {
	meta, _ := o.raw["metadata"].(map[string]any)
	return meta
}

func newUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ReadManifest reads a manifest from a stream, bounded.
func ReadManifest(r io.Reader) ([]byte, error) {
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(r, maxManifest+1)); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return buf.Bytes(), nil
}
