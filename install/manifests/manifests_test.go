package manifests

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is rendered now; look at it and run with -update:\n%s", path, got)
	}
}

func objects(t *testing.T, o Options) []*unstructured.Unstructured {
	t.Helper()
	all, err := Objects(o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func text(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	out, err := Encode([]*unstructured.Unstructured{o})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func find(t *testing.T, all []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	t.Helper()
	i := slices.IndexFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
	if i < 0 {
		t.Fatalf("there is no %s", kind)
	}
	return all[i]
}

func TestOptions(t *testing.T) {
	all := objects(t, Options{
		Version: "v1.2.3", Registry: "registry.example/mesh/", Replicas: 3, APIServer: "[fd00::1]:6443", WithoutKubeProxy: true,
		CNIConfDir: "/var/lib/cni/net.d", CNIBinDir: "/var/lib/cni/bin", LogLevel: "debug",
	})
	golden(t, "deployment.yaml", text(t, find(t, all, "Deployment")))
	golden(t, "daemonset.yaml", text(t, find(t, all, "DaemonSet")))
	if tag := ImageTag(find(t, all, "DaemonSet")); tag != "v1.2.3" {
		t.Errorf("version %q is read back", tag)
	}
}

func TestClean(t *testing.T) {
	golden(t, "clean.yaml", text(t, find(t, objects(t, Options{Clean: true}), "DaemonSet")))
}

func TestValidate(t *testing.T) {
	for want, o := range map[string]Options{
		"1 to 16":         {Replicas: 17},
		"HOST:PORT":       {APIServer: "api.example"},
		"absolute path":   {CNIConfDir: "net.d"},
		"below /":         {CNIBinDir: "/.."},
		"debug, info":     {LogLevel: "loud"},
		"tag of an image": {Version: "v0.0.0+dirty"},
	} {
		if _, err := Objects(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", o, err, want)
		}
	}
	if err := (Options{Version: Tag("v0.0.0-2026+dirty")}).Validate(); err != nil {
		t.Errorf("the tag of a working tree's version: %v", err)
	}
}

// TestRights is every rule that is granted: whoever changes one reads it here.
func TestRights(t *testing.T) {
	var b strings.Builder
	for _, o := range objects(t, Options{}) {
		rules, _, err := unstructured.NestedSlice(o.Object, "rules")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			r := r.(map[string]any)
			for _, resource := range r["resources"].([]any) {
				fmt.Fprintf(&b, "%s: %v %v.%v %v\n", Name(o), r["verbs"], resource, r["apiGroups"], r["resourceNames"])
			}
		}
	}
	golden(t, "rights.txt", b.String())
	if strings.Contains(b.String(), "*") {
		t.Error("a rule has a wildcard")
	}
}

// TestRestricted: the controller needs nothing that PodSecurity's level
// restricted forbids, and the agent is no privileged container.
func TestRestricted(t *testing.T) {
	all := objects(t, Options{})
	controller := text(t, find(t, all, "Deployment"))
	for _, want := range []string{"runAsNonRoot: true", "allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true", "- ALL", "type: RuntimeDefault"} {
		if !strings.Contains(controller, want) {
			t.Errorf("the controller lacks %q", want)
		}
	}
	agent := text(t, find(t, all, "DaemonSet"))
	for _, never := range []string{"hostPath", "hostNetwork", "hostPID", "add:"} {
		if strings.Contains(controller, never) {
			t.Errorf("the controller has %s", never)
		}
	}
	// A declared port of the host's network could not be had by two pods, and
	// the update starts the second before the first has ended.
	for _, never := range []string{"privileged: true", "ports:"} {
		if strings.Contains(agent, never) {
			t.Errorf("the agent has %s", never)
		}
	}
}

// TestGatewayCRDs: the definitions are those of the module that the code is
// compiled with, byte by byte.
func TestGatewayCRDs(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if version != GatewayVersion {
		t.Errorf("the module is %s, the definitions %s", version, GatewayVersion)
	}
	names, err := filepath.Glob("gateway/*.yaml")
	if err != nil || len(names) != 5 {
		t.Fatalf("%d definitions, %v; want 5", len(names), err)
	}
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(dir, "config/crd/standard", filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != string(want) {
			t.Errorf("%s is not that of the module (%v); -update copies it", name, err)
		}
	}
}

// A cluster may have IPv6 alone, or first: a controller that listens on an IPv4
// address is one that no agent reaches there.
func TestControllerListensOnBothFamilies(t *testing.T) {
	if got := text(t, find(t, objects(t, Options{}), "Deployment")); !strings.Contains(got, "- --listen=:15010\n") {
		t.Errorf("the controller listens on one family:\n%s", got)
	}
}
