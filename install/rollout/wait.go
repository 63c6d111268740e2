package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heddle.io/heddle/install/manifests"
)

// Ready waits until Deployments and DaemonSets among objects run as they are
// written, with every pod of the new kind ready.
func (c *Cluster) Ready(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if kind := o.GetKind(); kind != "Deployment" && kind != "DaemonSet" {
			continue
		}
		if err := c.poll(ctx, manifests.Name(o), func() (bool, string, error) { return c.rolledOut(ctx, o) }); err != nil {
			return err
		}
		c.progress(manifests.Name(o) + " is ready")
	}
	return nil
}

func (c *Cluster) rolledOut(ctx context.Context, o *unstructured.Unstructured) (bool, string, error) {
	found, err := c.get(ctx, o)
	if err != nil || found == nil {
		return false, "it does not exist", err
	}
	w := Measure(found)
	if w.Done() {
		return true, "", nil
	}
	missing := w.String()
	if why := c.whyNot(ctx, found); why != "" {
		missing += ": " + why
	}
	return false, missing, nil
}

// Workload is how far a Deployment or DaemonSet is.
type Workload struct {
	Wanted, Updated, Ready, Old int64
	Seen                        bool // its controller has seen the last change
}

// Measure reads the status of a Deployment or DaemonSet.
func Measure(o *unstructured.Unstructured) Workload {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(o.Object, path...)
		return n
	}
	w := Workload{Seen: number("status", "observedGeneration") >= o.GetGeneration()}
	if o.GetKind() == "DaemonSet" {
		w.Wanted, w.Updated = number("status", "desiredNumberScheduled"), number("status", "updatedNumberScheduled")
		w.Ready = number("status", "numberAvailable")
		return w
	}
	w.Wanted, w.Updated = number("spec", "replicas"), number("status", "updatedReplicas")
	w.Ready = number("status", "availableReplicas")
	w.Old = number("status", "replicas") - w.Updated
	return w
}

// Done says that everything wanted is there and nothing else.
func (w Workload) Done() bool {
	return w.Seen && w.Updated >= w.Wanted && w.Ready >= w.Wanted && w.Old <= 0
}

func (w Workload) String() string {
	if !w.Seen {
		return "not seen by its controller yet"
	}
	return fmt.Sprintf("%d/%d updated, %d/%d ready", w.Updated, w.Wanted, w.Ready, w.Wanted)
}

var pods = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// whyNot is what kubelet says of the first pod of a workload that is not ready.
func (c *Cluster) whyNot(ctx context.Context, o *unstructured.Unstructured) string {
	selector, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
	resource, err := c.resource(pods, o.GetNamespace())
	if err != nil {
		return ""
	}
	list, err := resource.List(ctx, metav1.ListOptions{LabelSelector: labels(selector), Limit: 500})
	if err != nil {
		return ""
	}
	for _, pod := range list.Items {
		if condition(&pod, "Ready") == "True" || pod.GetDeletionTimestamp() != nil {
			continue
		}
		if why := Trouble(&pod); why != "" {
			node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
			return fmt.Sprintf("pod %s on %s: %s", pod.GetName(), orNone(node), why)
		}
	}
	return ""
}

// Trouble is why a pod does not run, in kubelet's words or the scheduler's.
func Trouble(pod *unstructured.Unstructured) string {
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", list)
		for _, s := range statuses {
			status, _ := s.(map[string]any)
			waiting, ok, _ := unstructured.NestedStringMap(status, "state", "waiting")
			if ok && waiting["reason"] != "PodInitializing" && waiting["reason"] != "ContainerCreating" {
				return strings.TrimSpace(waiting["reason"] + " " + firstLine(waiting["message"]))
			}
			if message, ok, _ := unstructured.NestedString(status, "lastState", "terminated", "reason"); ok {
				code, _, _ := unstructured.NestedInt64(status, "lastState", "terminated", "exitCode")
				return fmt.Sprintf("it ended before: %s, exit code %d; kubectl logs --previous -n %s %s", message, code, pod.GetNamespace(), pod.GetName())
			}
		}
	}
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		if message, _ := c["message"].(string); c["status"] == "False" && c["type"] == "PodScheduled" {
			return firstLine(message)
		}
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	const most = 200
	return line[:min(len(line), most)]
}

func labels(m map[string]string) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func orNone(s string) string {
	if s == "" {
		return "no node"
	}
	return s
}
