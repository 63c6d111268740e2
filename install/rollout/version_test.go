package rollout

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestNeighbours(t *testing.T) {
	for _, c := range []struct {
		from, to string
		known    bool
		err      string
	}{
		{"v0.1.0", "v0.1.9", true, ""},
		{"v0.1.0", "v0.2.0", true, ""},
		{"v0.2.0", "v0.1.0", true, ""},
		{"v0.1.0", "v0.3.0", true, "go to v0.2 first"},
		{"v0.4.0", "v0.1.0", true, "go to v0.3 first"},
		{"v0.9.0", "v1.0.0", true, "more than one"},
		{"v0.0.0-20261124-abc", "v0.1.0", true, ""},
		{"dev", "v0.1.0", false, ""},
		{"", "v0.1.0", false, ""},
	} {
		known, err := Neighbours(c.from, c.to)
		if known != c.known || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s to %s: %v, %v; want %v, %q", c.from, c.to, known, err, c.known, c.err)
		}
	}
}

func TestMeasure(t *testing.T) {
	at := func(kind string, spec, status map[string]any) Workload {
		return Measure(&unstructured.Unstructured{Object: map[string]any{
			"kind": kind, "metadata": map[string]any{"generation": int64(2)}, "spec": spec, "status": status,
		}})
	}
	for name, c := range map[string]struct {
		w    Workload
		done bool
	}{
		"not seen":   {at("DaemonSet", nil, map[string]any{"observedGeneration": int64(1)}), false},
		"no nodes":   {at("DaemonSet", nil, map[string]any{"observedGeneration": int64(2)}), true},
		"one is old": {at("DaemonSet", nil, map[string]any{"observedGeneration": int64(2), "desiredNumberScheduled": int64(2), "updatedNumberScheduled": int64(1), "numberAvailable": int64(2)}), false},
		"all":        {at("DaemonSet", nil, map[string]any{"observedGeneration": int64(2), "desiredNumberScheduled": int64(2), "updatedNumberScheduled": int64(2), "numberAvailable": int64(2)}), true},
		"old left": {at("Deployment", map[string]any{"replicas": int64(1)},
			map[string]any{"observedGeneration": int64(2), "replicas": int64(2), "updatedReplicas": int64(1), "availableReplicas": int64(2)}), false},
	} {
		if c.w.Done() != c.done {
			t.Errorf("%s: done %v, %+v", name, c.w.Done(), c.w)
		}
	}
}

func TestWithoutLabels(t *testing.T) {
	if patch := withoutLabels(map[string]string{"app": "web", "example.com/heddle.io": "x"}); patch != nil {
		t.Errorf("patch %s, want none", patch)
	}
	got := string(withoutLabels(map[string]string{"app": "web", "heddle.io/mesh": "enabled", "heddle.io/socket-bypass": "enabled"}))
	if want := `{"metadata":{"labels":{"heddle.io/mesh":null,"heddle.io/socket-bypass":null}}}`; got != want {
		t.Errorf("patch %s, want %s", got, want)
	}
}
