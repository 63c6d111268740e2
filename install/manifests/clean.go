package manifests

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// clean turns the agents into cleaners: an init container does it, and a
// container that only waits tells by being ready that it is done. Agents go
// first: with no surge a cleaner starts when its node's agent has ended.
func clean(object *unstructured.Unstructured) error {
	strategy := map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxSurge": int64(0), "maxUnavailable": "100%"}}
	if err := unstructured.SetNestedMap(object.Object, strategy, "spec", "updateStrategy"); err != nil {
		return err
	}
	unstructured.RemoveNestedField(object.Object, "spec", "minReadySeconds")
	return inPod(object, func(pod map[string]any) error {
		pod["terminationGracePeriodSeconds"] = int64(5)
		waiter := pod["containers"].([]any)[0].(map[string]any)
		for _, probe := range []string{"startupProbe", "readinessProbe", "livenessProbe"} {
			delete(waiter, probe)
		}
		// What only a running agent needs may be gone already.
		drop(pod, "volumes", "ca", "token")
		drop(waiter, "volumeMounts", "ca", "token")
		args := []any{"clean"}
		for _, a := range waiter["args"].([]any) {
			if strings.HasPrefix(a.(string), "--cni-") {
				args = append(args, a)
			}
		}
		cleaner := (&unstructured.Unstructured{Object: waiter}).DeepCopy().Object
		cleaner["name"] = Cleaned
		cleaner["args"] = args
		pod["initContainers"] = []any{cleaner}
		waiter["args"] = []any{"idle"}
		return nil
	})
}

// drop takes entries out of a list by name.
func drop(in map[string]any, list string, names ...string) {
	entries, _ := in[list].([]any)
	in[list] = slices.DeleteFunc(entries, func(e any) bool {
		return slices.Contains(names, e.(map[string]any)["name"].(string))
	})
}
