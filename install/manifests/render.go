package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Where everything is, in a cluster.
const (
	Namespace  = "heddle-system"
	Controller = "heddle-controller" // Deployment, Service, ServiceAccount
	Agent      = "heddle-agent"      // DaemonSet, ServiceAccount
	Authority  = "heddle-ca"         // ConfigMap that the controller publishes
	Component  = "app.kubernetes.io/component"

	// Registry is where the images' names begin unless told otherwise.
	Registry = "heddle.io"
	// AgentImage is the agent's image in a registry.
	AgentImage = "heddled"
	// OptionsAnnotation is on the DaemonSet: the options that were chosen, so that
	// the next installation need not be told again.
	OptionsAnnotation = "heddle.io/options"
	// Cleaned is the init container that takes Heddle off a node.
	Cleaned = "clean"
)

// Options are an installer's choices. The zero value of each is the base's.
type Options struct {
	Version          string `json:"-"`                          // tag of both images
	Registry         string `json:"registry,omitempty"`         // where the images are, without their names
	Replicas         int    `json:"replicas,omitempty"`         // of the controller
	APIServer        string `json:"apiServer,omitempty"`        // host:port at which both find the API server
	WithoutKubeProxy bool   `json:"withoutKubeProxy,omitempty"` // the host reaches no Service address
	CNIConfDir       string `json:"cniConfDir,omitempty"`       // of the nodes
	CNIBinDir        string `json:"cniBinDir,omitempty"`
	LogLevel         string `json:"logLevel,omitempty"`

	// Clean has the agents' DaemonSet take Heddle off every node, instead of
	// running it there. Its pods are ready when that is done.
	Clean bool `json:"-"`
}

// Validate reports everything that is wrong, at once.
func (o Options) Validate() error {
	var bad []error
	if o.Replicas < 0 || o.Replicas > 16 {
		bad = append(bad, fmt.Errorf("%d replicas of the controller: choose 1 to 16", o.Replicas))
	}
	if o.APIServer != "" {
		if host, port, err := net.SplitHostPort(o.APIServer); err != nil || host == "" || port == "" {
			bad = append(bad, fmt.Errorf("API server %q: it must be HOST:PORT, as every node reaches it", o.APIServer))
		}
	}
	for _, dir := range []string{o.CNIConfDir, o.CNIBinDir} {
		if dir != "" && (!path.IsAbs(dir) || path.Clean(dir) == "/") {
			bad = append(bad, fmt.Errorf("CNI directory %q: it must be an absolute path below /", dir))
		}
	}
	if o.LogLevel != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, o.LogLevel) {
		bad = append(bad, fmt.Errorf("log level %q: choose debug, info, warn or error", o.LogLevel))
	}
	if strings.ContainsAny(o.Version, "+/:@ ") {
		bad = append(bad, fmt.Errorf("version %q cannot be the tag of an image: use letters, digits, dots and dashes", o.Version))
	}
	return errors.Join(bad...)
}

// Objects are the objects of Heddle in the order in which they are to be
// applied, without the CRDs.
func Objects(o Options) ([]*unstructured.Unstructured, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	objects, err := readBase()
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		switch object.GetKind() {
		case "Deployment":
			err = o.controller(object)
		case "DaemonSet":
			err = o.agent(object)
		}
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", Name(object), err)
		}
	}
	return objects, nil
}

func (o Options) controller(object *unstructured.Unstructured) error {
	if o.Replicas > 0 {
		if err := unstructured.SetNestedField(object.Object, int64(o.Replicas), "spec", "replicas"); err != nil {
			return err
		}
	}
	return inContainer(object, func(c map[string]any) {
		o.both(c)
	})
}

func (o Options) agent(object *unstructured.Unstructured) error {
	if text, err := json.Marshal(o); err == nil && string(text) != "{}" {
		object.SetAnnotations(map[string]string{OptionsAnnotation: string(text)})
	}
	err := inContainer(object, func(c map[string]any) {
		o.both(c)
		if o.WithoutKubeProxy {
			setFlag(c, "--server", "endpoints:"+Namespace+"/"+Controller+":15010")
		}
		if o.CNIConfDir != "" {
			setFlag(c, "--cni-conf-dir", o.CNIConfDir)
			mountAt(c, "cni-conf", o.CNIConfDir)
		}
		if o.CNIBinDir != "" {
			setFlag(c, "--cni-bin-dir", o.CNIBinDir)
			mountAt(c, "cni-bin", o.CNIBinDir)
		}
	})
	if err != nil {
		return err
	}
	if err := hostPaths(object, map[string]string{"cni-conf": o.CNIConfDir, "cni-bin": o.CNIBinDir}); err != nil {
		return err
	}
	if o.Clean {
		return clean(object)
	}
	return nil
}

// both sets what controller and agent have in common.
func (o Options) both(c map[string]any) {
	image := c["image"].(string)
	name, tag, _ := strings.Cut(path.Base(image), ":")
	registry := path.Dir(image)
	if o.Registry != "" {
		registry = strings.TrimSuffix(o.Registry, "/")
	}
	if o.Version != "" {
		tag = o.Version
	}
	c["image"] = registry + "/" + name + ":" + tag
	if o.LogLevel != "" {
		setFlag(c, "--log-level", o.LogLevel)
	}
	if host, port, err := net.SplitHostPort(o.APIServer); err == nil {
		env, _ := c["env"].([]any)
		c["env"] = append(env,
			map[string]any{"name": "KUBERNETES_SERVICE_HOST", "value": host},
			map[string]any{"name": "KUBERNETES_SERVICE_PORT", "value": port})
	}
}

// inContainer changes the one container of a workload.
func inContainer(object *unstructured.Unstructured, change func(map[string]any)) error {
	return inPod(object, func(pod map[string]any) error {
		containers, _ := pod["containers"].([]any)
		if len(containers) != 1 {
			return fmt.Errorf("%d containers, want 1", len(containers))
		}
		change(containers[0].(map[string]any))
		return nil
	})
}

// inPod changes the pod template's spec of a workload.
func inPod(object *unstructured.Unstructured, change func(map[string]any) error) error {
	pod, ok, err := unstructured.NestedFieldNoCopy(object.Object, "spec", "template", "spec")
	if err != nil || !ok {
		return fmt.Errorf("no pod template: %w", errors.Join(err))
	}
	return change(pod.(map[string]any))
}

func setFlag(container map[string]any, flag, value string) {
	args, _ := container["args"].([]any)
	for i, a := range args {
		if strings.HasPrefix(a.(string), flag+"=") {
			args[i] = flag + "=" + value
		}
	}
}

func mountAt(container map[string]any, volume, dir string) {
	mounts, _ := container["volumeMounts"].([]any)
	for _, m := range mounts {
		if m := m.(map[string]any); m["name"] == volume {
			m["mountPath"] = dir
		}
	}
}

func hostPaths(object *unstructured.Unstructured, dirs map[string]string) error {
	return inPod(object, func(pod map[string]any) error {
		volumes, _ := pod["volumes"].([]any)
		for _, v := range volumes {
			v := v.(map[string]any)
			if dir := dirs[v["name"].(string)]; dir != "" {
				v["hostPath"].(map[string]any)["path"] = dir
			}
		}
		return nil
	})
}

// ImageTag is the version that a workload runs.
func ImageTag(object *unstructured.Unstructured) string {
	tag := ""
	_ = inContainer(object, func(c map[string]any) {
		image, _ := c["image"].(string)
		_, tag, _ = strings.Cut(path.Base(image), ":")
	})
	return tag
}

// Tag is a version as the tag of an image: pseudo-versions of a working tree have
// a plus sign, which a tag cannot.
func Tag(version string) string {
	if version == "" || version == "(devel)" || version == "unknown" {
		return "dev"
	}
	return strings.ReplaceAll(version, "+", "-")
}
