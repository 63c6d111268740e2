package sandbox

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	objects, err := parse([]byte(`# the order of a manifest is not the order of making
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, command: [sleep]}]}
--- # a comment
---
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute", "metadata": {"name": "r", "namespace": "n"}},
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.String()+"="+o.key())
	}
	want := "Namespace shop=namespace__shop, Service default/s=service_default_s, TCPRoute n/r=tcproute_n_r, Pod default/p=pod_default_p"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, manifest, want string }{
		{"no YAML", "a: b: c", "document 1 of the manifest: "},
		{"no object", "[1, 2]", "document 1 of the manifest: "},
		{"no kind", "metadata: {name: x}", "apiVersion and kind are required"},
		{"a Deployment", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}", "write the Pods themselves"},
		{"something else", "{apiVersion: v1, kind: Secret, metadata: {name: x}}", "kind Secret of v1 is unknown here"},
		{"a path as name", "{apiVersion: v1, kind: Namespace, metadata: {name: ../x}}", `metadata.name "../x" is no valid name`},
		{"underscore", "{apiVersion: v1, kind: Namespace, metadata: {name: a_b}}", "is no valid name"},
		{"a path as namespace", "{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a/b}}", "metadata.namespace"},
		{"dot in a namespace", "{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a.b}}", "metadata.namespace"},
		{"a namespace's namespace", "{apiVersion: v1, kind: Namespace, metadata: {name: x, namespace: a}}", "has no namespace"},
		{"a typing mistake", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {port: []}}", `unknown field "port"`},
		{"twice", "{apiVersion: v1, kind: Namespace, metadata: {name: x}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: x}}", "Namespace x is in the manifest twice"},
		{"a list of lists", "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List}]}", "a List holds objects"},
		{"too large", strings.Repeat("#", maxManifest+1), "at most 4194304 are read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse([]byte(tt.manifest))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestBirthIsKept(t *testing.T) {
	route := func(extra string) *object {
		objects, err := parse([]byte("apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: r, namespace: n" + extra + "}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return objects[0]
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	first := route("")
	first.born(nil, now)
	again := route("")
	again.born(first, now.Add(time.Hour))
	if got := again.metadata(); got["creationTimestamp"] != "2026-01-02T03:04:05Z" || got["uid"] != first.metadata()["uid"] {
		t.Errorf("applied again: %v, want what it was born with", got)
	}
	given := route(", creationTimestamp: '2020-01-01T00:00:00Z'")
	given.born(nil, now)
	if got := given.metadata()["creationTimestamp"]; got != "2020-01-01T00:00:00Z" {
		t.Errorf("a given creationTimestamp became %v", got)
	}
}

func TestExamplesParse(t *testing.T) {
	for _, name := range Examples() {
		text, err := Example(name)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := parse(text)
		if err != nil {
			t.Errorf("example %s: %v", name, err)
		}
		c := newClusterIPs(0, nil)
		for _, o := range objects {
			if o.pod != nil {
				if ignored, err := admitPod(o.pod); err != nil || len(ignored) > 0 {
					t.Errorf("example %s: %s: %v, left out %v", name, o, err, ignored)
				}
			}
			if o.service != nil {
				if err := c.complete(o.service, nil); err != nil {
					t.Errorf("example %s: %v", name, err)
				}
			}
		}
	}
}

// FuzzParse: a manifest comes from a user; whatever is in it, what passes has
// names that are safe as parts of paths, and can be written and read again.
func FuzzParse(f *testing.F) {
	for _, name := range Examples() {
		text, _ := Example(name)
		f.Add(text)
	}
	f.Add([]byte("{apiVersion: v1, kind: List, items: [null, {}]}"))
	f.Add([]byte("---\n--- x\n\n---\r\napiVersion: v1\nkind: Pod\nmetadata: null"))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		objects, err := parse(manifest)
		if err != nil {
			return
		}
		for _, o := range objects {
			if strings.ContainsAny(o.name+o.namespace, "/_\x00") || strings.Contains(o.name, "..") && strings.Contains(o.name, "/") {
				t.Fatalf("unsafe name in %q", o)
			}
			o.born(nil, time.Unix(0, 0))
			text, err := o.encode()
			if err != nil {
				t.Fatalf("%s cannot be written: %v", o, err)
			}
			back, err := parse(text)
			if err != nil || len(back) != 1 || back[0].key() != o.key() {
				t.Fatalf("%s does not come back: %v\n%s", o, err, text)
			}
		}
	})
}
