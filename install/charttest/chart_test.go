package charttest

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"heddle.io/heddle/install/manifests"
)

// TestAllThreeAreEqual: heddlectl, the chart and the overlays give the same
// objects for the same wishes.
func TestAllThreeAreEqual(t *testing.T) {
	for name, c := range map[string]struct {
		options manifests.Options
		values  map[string]any
		overlay string // empty: there is none for these
	}{
		"defaults": {overlay: "base"},
		"single": {
			options: manifests.Options{Replicas: 1},
			values:  map[string]any{"controller": map[string]any{"replicas": 1}},
			overlay: "overlays/single",
		},
		"no kube-proxy": {
			options: manifests.Options{WithoutKubeProxy: true, APIServer: "api.example:6443"},
			values:  map[string]any{"kubeProxy": false, "apiServer": "api.example:6443"},
			overlay: "overlays/no-kube-proxy",
		},
		"everything": {
			options: manifests.Options{
				Version: "v0.2.0", Registry: "registry.example:5000/mesh", Replicas: 3, APIServer: "[fd00::1]:443",
				CNIConfDir: "/var/lib/cni/net.d", CNIBinDir: "/var/lib/cni/bin", LogLevel: "debug",
			},
			values: map[string]any{
				"image":      map[string]any{"tag": "v0.2.0", "registry": "registry.example:5000/mesh"},
				"controller": map[string]any{"replicas": 3}, "apiServer": "[fd00::1]:443",
				"cni": map[string]any{"confDir": "/var/lib/cni/net.d", "binDir": "/var/lib/cni/bin"}, "logLevel": "debug",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := installed(t, c.options)
			same(t, "the chart", rendered(t, c.values), want)
			if c.overlay != "" {
				same(t, c.overlay, built(t, c.overlay), want)
			}
		})
	}
}

// installed is what heddlectl applies, without the note that it leaves itself.
func installed(t *testing.T, o manifests.Options) []*unstructured.Unstructured {
	t.Helper()
	objects, err := manifests.Objects(o)
	if err != nil {
		t.Fatal(err)
	}
	crds, err := manifests.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		notes := object.GetAnnotations()
		delete(notes, manifests.OptionsAnnotation)
		if len(notes) == 0 {
			object.SetAnnotations(nil)
		}
	}
	return append(objects, crds...)
}

func rendered(t *testing.T, values map[string]any) []*unstructured.Unstructured {
	t.Helper()
	c, err := loader.Load("../chart")
	if err != nil {
		t.Fatal(err)
	}
	all := decode(t, crds(c))
	with, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "heddle", Namespace: "default", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(c, with)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") {
			all = append(all, decode(t, text)...)
		}
	}
	return all
}

func crds(c *chart.Chart) string {
	var text strings.Builder
	for _, crd := range c.CRDObjects() {
		text.WriteString("---\n" + string(crd.File.Data) + "\n")
	}
	return text.String()
}

func built(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../manifests/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := manifests.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return objects
}

func same(t *testing.T, who string, got, want []*unstructured.Unstructured) {
	t.Helper()
	ours, theirs := byName(t, want), byName(t, got)
	for name, text := range ours {
		switch found, ok := theirs[name]; {
		case !ok:
			t.Errorf("%s lacks %s", who, name)
		case found != text:
			t.Errorf("%s has another %s:\n%s\nwant:\n%s", who, name, found, text)
		}
	}
	for name := range theirs {
		if _, ok := ours[name]; !ok {
			t.Errorf("%s has %s, which heddlectl does not install", who, name)
		}
	}
}

func byName(t *testing.T, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range objects {
		text, err := manifests.Encode([]*unstructured.Unstructured{o})
		if err != nil {
			t.Fatal(err)
		}
		all[manifests.Name(o)] = string(text)
	}
	return all
}
