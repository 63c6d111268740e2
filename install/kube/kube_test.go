package kube

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// api answers paths with JSON, and everything else with 404.
func api(t *testing.T, answers map[string]string) *Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.RequestURI()]
		if !ok {
			text, ok = answers[r.URL.Path]
		}
		code := 0
		if _, err := fmt.Sscanf(text, "%d", &code); err == nil {
			w.WriteHeader(code)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	c, err := Open(&rest.Config{Host: server.URL}, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListFollowsPages(t *testing.T) {
	c := api(t, map[string]string{
		"/api/v1/nodes?limit=500":               `{"metadata": {"continue": "next"}, "items": [{"a": 1}]}`,
		"/api/v1/nodes?continue=next&limit=500": `{"items": [{"a": 2}, {"a": 3}]}`,
	})
	items, cut, err := c.List(t.Context(), Resource{Version: "v1", Name: "nodes"})
	if err != nil || cut || len(items) != 3 || string(items[2]) != `{"a": 3}` {
		t.Errorf("got %s, %v, %v", items, cut, err)
	}
}

func TestListIsBounded(t *testing.T) {
	c := api(t, map[string]string{"/api/v1/nodes": `{"metadata": {"continue": "again"}, "items": [{}]}`})
	items, cut, err := c.List(t.Context(), Resource{Version: "v1", Name: "nodes"})
	if err != nil || !cut || len(items) != maxPages {
		t.Errorf("got %d items, %v, %v", len(items), cut, err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	c := api(t, map[string]string{"/api/v1/nodes": "403", "/apis/apps/v1/namespaces/x/deployments": "403", "/api/v1/pods": "401"})
	for want, r := range map[string]Resource{
		"no right to list nodes in the whole cluster: ask for it (kubectl auth can-i list nodes -A)": {Version: "v1", Name: "nodes"},
		"kubectl auth can-i list deployments.apps -n x":                                              {Group: "apps", Version: "v1", Name: "deployments", Namespace: "x"},
		"log in again": {Version: "v1", Name: "pods"},
	} {
		_, _, err := c.List(t.Context(), r)
		var denied *Denied
		if !errors.As(err, &denied) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", r, err, want)
		}
	}
	if _, err := c.Pod(t.Context(), "shop", "none"); err == nil || !strings.Contains(err.Error(), "no pod shop/none") {
		t.Errorf("a pod that is not there: %v", err)
	}
	gone, err := Open(&rest.Config{Host: "http://127.0.0.1:1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	var away *Unreachable
	if _, err := gone.Nodes(t.Context()); !errors.As(err, &away) {
		t.Errorf("no API server: %v", err)
	}
}

// While an agent is replaced its node has two pods: the one that runs counts.
func TestAgentsOneForEachNode(t *testing.T) {
	pod := func(name, node, started, state string) string {
		return fmt.Sprintf(`{"metadata": {"name": %q, "namespace": "heddle-system"}, "spec": {"nodeName": %q, "containers": [{"name": "agent"}]},
			"status": {"startTime": %q, "phase": "Running", "containerStatuses": [{"name": "agent", "state": %s}]}}`, name, node, started, state)
	}
	const running, waiting = `{"running": {}}`, `{"waiting": {"reason": "ErrImagePull", "message": "no such image"}}`
	c := api(t, map[string]string{"/api/v1/namespaces/heddle-system/pods": `{"items": [` + strings.Join([]string{
		pod("new-2", "node2", "2026-01-02T00:00:00Z", waiting),
		pod("old-2", "node2", "2026-01-01T00:00:00Z", running),
		pod("old-1", "node1", "2026-01-01T00:00:00Z", running),
		pod("new-1", "node1", "2026-01-02T00:00:00Z", running),
		pod("bad-3", "node3", "2026-01-02T00:00:00Z", waiting),
	}, ",") + `]}`})
	pods, err := c.Agents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pods {
		got = append(got, p.Name+" "+p.Down)
	}
	if want := "[new-1  old-2  bad-3 ErrImagePull: no such image]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestLeader(t *testing.T) {
	const path = "/apis/coordination.k8s.io/v1/namespaces/heddle-system/leases/heddle-controller"
	for text, want := range map[string]string{
		`{"spec": {"holderIdentity": "heddle-controller-1_abc"}}`: "heddle-controller-1",
		`{"spec": {"holderIdentity": "heddle-controller-1"}}`:     "heddle-controller-1",
		`{"spec": {}}`: "",
		"404":          "",
	} {
		if got, err := api(t, map[string]string{path: text}).Leader(t.Context()); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := api(t, map[string]string{path: "403"}).Leader(t.Context()); err == nil {
		t.Error("no error without the right")
	}
}

func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	text := `{apiVersion: v1, kind: Config, current-context: one, clusters: [{name: c, cluster: {server: "https://x"}}],
contexts: [{name: two, context: {cluster: c}}, {name: one, context: {cluster: c}}]}`
	if err := os.WriteFile(good, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	for _, tt := range []struct {
		opt  Options
		want string // of the error; empty: none
	}{
		{Options{Kubeconfig: good}, ""},
		{Options{Kubeconfig: good, Context: "two"}, ""},
		{Options{Kubeconfig: good, Context: "three"}, "choose one of: one, two"},
		{Options{Kubeconfig: filepath.Join(dir, "none")}, "check --kubeconfig"},
		{Options{}, "name a kubeconfig by --kubeconfig or $KUBECONFIG"},
	} {
		config, err := Config(tt.opt)
		switch {
		case tt.want == "" && (err != nil || config.Host != "https://x"):
			t.Errorf("%+v: got %v, %v", tt.opt, config, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%+v: got %v, want %q", tt.opt, err, tt.want)
		}
	}
	if Configured(Options{}) || !Configured(Options{Kubeconfig: good}) {
		t.Error("Configured is wrong")
	}
}
