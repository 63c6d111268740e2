package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJl"

// secrets must not be in a dump, wherever they come from.
var secrets = []string{token, "SENTINEL", "MIIEvQIBADANBg", "hunter2hunter2", "c3VwZXJzZWNyZXQ="}

// podJSON is a pod of Heddle that cannot be asked, with a secret everywhere
// that people put them.
const podJSON = `{"metadata": {"name": %q, "namespace": "heddle-system",
	"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "SENTINEL-applied", "heddle.io/x": "kept"},
	"managedFields": [{"manager": "SENTINEL-manager"}]},
 "spec": {"nodeName": "node1", "containers": [{"name": "agent", "args": ["--password=SENTINEL-arg"], "command": ["SENTINEL-command"],
	"env": [{"name": "PASS", "value": "SENTINEL-env"}],
	"livenessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": "SENTINEL-header"}]}}}]},
 "status": {"containerStatuses": [{"name": "agent", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "token=hunter2hunter2"}}}]}}`

// apiServer has a namespace of the mesh, Heddle's pods and logs. It refuses
// events, does not know TLSRoutes, and must not be asked for Secrets.
func apiServer(t *testing.T) *httptest.Server {
	list := func(items ...string) string { return `{"items": [` + strings.Join(items, ",") + `]}` }
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case strings.HasSuffix(path, "/secrets") || strings.HasSuffix(path, "/configmaps"):
			t.Errorf("the dump asked for %s", path)
		case strings.HasSuffix(path, "/events"):
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}`)
		case strings.HasSuffix(path, "/tlsroutes"):
			http.NotFound(w, r)
		case strings.HasSuffix(path, "/log"):
			fmt.Fprintf(w, "it starts\nauthorization: Bearer c3VwZXJzZWNyZXQ=\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----\n%s\n", token)
		case path == "/api/v1/namespaces/heddle-system/pods":
			_, component, ok := strings.Cut(r.URL.Query().Get("labelSelector"), "component=")
			if !ok { // all of them
				component = "agent"
			}
			fmt.Fprint(w, list(fmt.Sprintf(podJSON, "heddle-"+component)))
		case path == "/api/v1/namespaces":
			fmt.Fprint(w, list(`{"metadata": {"name": "shop", "labels": {"heddle.io/mesh": "enabled"}}}`))
		default:
			fmt.Fprint(w, list())
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestSysdumpHoldsNoSecrets(t *testing.T) {
	server := apiServer(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {token: "%s"}}],
clusters: [{name: c, cluster: {server: "%s"}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`, token, server.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "d.tar.gz")
	code, out, errs := try(t, "sysdump", "--kubeconfig="+config, "-o", file)
	if code != exitProblem || !strings.Contains(out, "missing.txt") {
		t.Fatalf("code %d, %s%s", code, out, errs)
	}
	files := unpack(t, file)
	for name, text := range files {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s has %q:\n%s", name, s, text)
			}
		}
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is no JSON:\n%s", name, text)
		}
	}
	for name, want := range map[string]string{
		"d/missing.txt":                     "can-i list events -n shop",
		"d/status.txt":                      "CrashLoopBackOff",
		"d/cluster/heddle-system/pods.json": `"heddle.io/x": "kept"`,
		"d/cluster/tlsroutes.json":          "does not have this kind",
		"d/cluster/shop/services.json":      "[]",
		"d/logs/heddle-agent.log":           "it starts",
		"d/logs/heddle-agent.previous.log":  "it starts",
		"d/logs/heddle-controller.log":      "it starts",
		"d/heddlectl.json":                  "version",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s should have %q:\n%s", name, want, files[name])
		}
	}
	if code, _, errs := try(t, "sysdump", "--kubeconfig="+config, "-o", file); code != exitProblem || !strings.Contains(errs, "name a new file") {
		t.Errorf("an existing file: code %d, %s", code, errs)
	}
}

func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

func TestDumpIsBounded(t *testing.T) {
	var packed bytes.Buffer
	d := newDump(&packed, "d")
	d.have("long.log", bytes.Repeat([]byte("x"), maxDumpFile+1), nil)
	if err := d.end(); err != nil || d.size != maxDumpFile || len(d.missing) != 1 {
		t.Errorf("size %d, missing %v, %v", d.size, d.missing, err)
	}
}
