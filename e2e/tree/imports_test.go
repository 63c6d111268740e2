package tree

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// allowed says which packages of this module the code of a package may import
// directly. "x/..." is x and everything below it. Tests are not bound by it,
// except by bans below.
//
//	NODE                              CLUSTER                        SHARED
//	cmd/heddled                       cmd/heddle-controller          cmd/heddlectl  e2e
//	dataplane/node                    controlplane/plane             install
//	feed attach tables enroll admin   source serve                               dirty edge
//	state plan                        model translate                identity/mtls   pure middle
//	netns                                                            bpf
//	                                                                 api
var allowed = map[string][]string{
	"api/admin":      {},
	"api/admin/join": {},
	"api/crd":        {},
	"api/v1alpha1":   {},
	"api/xds":        {},
	"bpf":            {},

	"identity/ca":   {},
	"identity/mtls": {},

	"bpf/bpftest": {},

	"dataplane/state":           {},
	"dataplane/state/statetest": {"dataplane/state"},
	"dataplane/plan":            {"bpf", "dataplane/state"},
	"dataplane/disk":            {},
	"dataplane/netns":           {},
	"dataplane/nettest":         {"dataplane/netns"},
	"dataplane/semantics":       {"dataplane/netns"},
	"dataplane/attach":          {"bpf"},
	"dataplane/tables":          {"bpf", "dataplane/plan"},
	"dataplane/feed":            {"api/admin", "api/xds", "dataplane/disk", "dataplane/state"},
	"dataplane/feed/feedtest":   {"api/xds"},
	"dataplane/endpoints":       {},
	"dataplane/enroll":          {"dataplane/disk", "dataplane/netns", "dataplane/plan", "dataplane/state"},
	"dataplane/node":            {"api/...", "bpf", "dataplane/..."},
	"dataplane/procs":           {},
	"dataplane/hold":            {},
	// The plugin is a program of its own, small and quick to start: it has the
	// pod's namespace, the filters that hold it back, and the agent's JSON.
	"dataplane/cni/plugin": {"api/admin", "dataplane/hold", "dataplane/netns"},
	"dataplane/cni":        {"api/admin", "dataplane/cni/plugin", "dataplane/disk"},
	"dataplane/admin":      {"api/admin", "bpf", "dataplane/plan", "dataplane/procs", "dataplane/state"},

	"controlplane/model":             {},
	"controlplane/translate":         {"api/xds", "controlplane/model"},
	"controlplane/source":            {"api/v1alpha1", "controlplane/model"},
	"controlplane/condition":         {"api/xds", "controlplane/model", "controlplane/translate"},
	"controlplane/status":            {"controlplane/condition", "controlplane/model"},
	"controlplane/issue":             {"controlplane/model", "identity/..."},
	"controlplane/serve":             {"api/xds", "controlplane/translate"},
	"controlplane/plane":             {"api/admin", "api/xds", "controlplane/..."},
	"controlplane/source/sourcetest": {},

	"install/check":     {"api/admin", "install/client", "install/kube", "install/manifests", "install/rollout"},
	"install/images":    {},
	"install/manifests": {"api/crd"},
	"install/rollout":   {"install/manifests"},
	"install/client":    {"api/admin"},
	"install/kube":      {},
	"install/sandbox":   {"api/admin", "install/client"},

	"cmd/heddled":           {"api/admin", "api/admin/join", "dataplane/endpoints", "dataplane/node", "identity/mtls"},
	"cmd/heddle-controller": {"api/admin/join", "controlplane/plane", "identity/mtls"},
	"cmd/heddle-cni":        {"dataplane/cni/plugin"},
	"cmd/heddlectl":         {"api/...", "install/..."},

	"e2e/bench":           {"e2e/bench/load", "install/sandbox"},
	"e2e/bench/load":      {},
	"e2e/cluster":         {},
	"e2e/cluster/fetch":   {},
	"e2e/cluster/pause":   {},
	"e2e/cluster/runtime": {},
	"e2e/cluster/up":      {"e2e/cluster"},

	"e2e/kernels":    {"api/admin", "install/client"},
	"e2e/peer":       {},
	"e2e/scale":      {"api/admin", "install/sandbox"},
	"e2e/scale/kube": {"api/admin", "api/xds", "e2e/cluster", "install/client"},
	"e2e/scenarios":  {},
	"e2e/semantics":  {"dataplane/semantics", "install/sandbox"},
	"e2e/tree":       {},
	"e2e/golden":     {},
	"e2e/kube":       {"api/...", "e2e/cluster", "e2e/peer"},
}

// A ban keeps an import out of the packages of its scope. It binds what ships;
// with tests set, tests too.
type ban struct {
	scope  []string
	except []string // packages of the scope that may
	but    []string // packages below target that everybody may import
	target string
	tests  bool
	reason string
}

var pure = []string{"dataplane/state", "dataplane/plan", "controlplane/model", "controlplane/translate", "controlplane/condition"}

var bans = []ban{
	{scope: []string{"dataplane/..."}, target: module + "controlplane/...", tests: true,
		reason: "the node and the control plane meet on the wire only: put what both need into api"},
	{scope: []string{"controlplane/..."}, target: module + "dataplane/...",
		but: []string{module + "dataplane/nettest"}, tests: true,
		reason: "the node and the control plane meet on the wire only: put what both need into api"},
	// The rows of dataplane/semantics are what agents and the end-to-end table
	// both run: a copy would soon be another table.
	{scope: []string{"e2e/...", "install/...", "cmd/heddlectl"}, target: module + "dataplane/...",
		but: []string{module + "dataplane/nettest", module + "dataplane/semantics"}, tests: true,
		reason: "drives the built binaries through api, as a user does"},
	{scope: []string{"e2e/...", "install/...", "cmd/heddlectl"}, target: module + "controlplane/...", tests: true,
		reason: "drives the built binaries through api, as a user does"},

	{scope: pure, target: "os", reason: pureReason},
	{scope: pure, target: "net", reason: pureReason + " (net/netip is fine)"},
	{scope: pure, target: "net/http", reason: pureReason},
	{scope: pure, target: "syscall", reason: pureReason},
	{scope: pure, target: "golang.org/x/sys/...", reason: pureReason},
	{scope: pure, target: "k8s.io/...", reason: pureReason + "; controlplane/source converts Kubernetes objects into the model"},
	{scope: pure, target: "sigs.k8s.io/...", reason: pureReason + "; controlplane/source converts Kubernetes objects into the model"},

	{scope: []string{"..."}, except: []string{"bpf/...", "dataplane/attach", "dataplane/tables", "dataplane/hold"},
		target: "github.com/cilium/ebpf/...",
		reason: "kernel objects stay behind attach and tables (and hold, whose two instructions the CNI plugin needs without the rest); everything else sees the plain structs of bpf"},
	{scope: []string{"..."}, except: []string{"controlplane/issue", "controlplane/source", "controlplane/status", "e2e/scale/kube", "install/kube", "install/sandbox"}, target: "k8s.io/api/...",
		reason: "Kubernetes objects are read in controlplane/source (by the sandbox, which is a small kubelet, by install/kube for people, by controlplane/issue and controlplane/status what is theirs; e2e/scale/kube makes thousands) and become plain types there"},
	{scope: []string{"cmd/heddlectl"}, target: "k8s.io/client-go/...",
		reason: "heddlectl reaches the API server by install/kube"},
	{scope: []string{"..."}, except: []string{"api/v1alpha1", "controlplane/source", "controlplane/status"}, target: "sigs.k8s.io/gateway-api/...",
		reason: "routes are read in controlplane/source and become model types there (controlplane/status writes their status, and api/v1alpha1 refers to Services as Gateway API's policies do)"},
	{scope: []string{"..."}, except: []string{"cmd/..."}, target: "flag",
		reason: "flags are read in cmd only: take an Options struct"},
	{scope: []string{"..."}, except: []string{"cmd/..."}, target: "github.com/spf13/...",
		reason: "flags are read in cmd only: take an Options struct"},
	{scope: []string{"..."}, target: "log",
		reason: "logs are structured: use log/slog, handed in by the caller"},
	{scope: []string{"..."}, target: "io/ioutil", tests: true,
		reason: "use os and io"},
}

const pureReason = "the pure middle has text in and text out: no kernel, no sockets, no clock, no Kubernetes"

func TestImportsAreInTheTable(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		key, ok := tableKey(p.path)
		if !ok {
			t.Errorf("package %s is not in the import table: add it to allowed in e2e/tree/imports_test.go, and to the map in README.md", p.path)
			continue
		}
		used[key] = true
		for _, imp := range p.imports {
			to, ours := strings.CutPrefix(imp, module)
			if ours && !slices.ContainsFunc(allowed[key], func(pat string) bool { return matches(pat, to) }) {
				t.Errorf("%s imports %s, which the table does not allow: it may import %q. Move the code to where the import is allowed, or change the table and say why in the commit", p.path, to, allowed[key])
			}
		}
	}
	for key, list := range allowed {
		if !used[key] {
			t.Errorf("the import table has a row for %s, which no longer exists: take the row out", key)
		}
		for _, pat := range list {
			if !exists(t, module+pat) {
				t.Errorf("the import table lets %s import %s, which no longer exists: take it out", key, pat)
			}
		}
	}
}

func TestBannedImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, b := range bans {
			if !anyMatch(b.scope, p.path) || anyMatch(b.except, p.path) || testOnly[p.path] != "" && !b.tests {
				continue
			}
			imports := p.imports
			if b.tests {
				imports = slices.Concat(p.imports, p.tests)
			}
			for _, imp := range imports {
				if matches(b.target, imp) && !slices.Contains(b.but, imp) {
					t.Errorf("%s imports %s: %s", p.path, imp, b.reason)
				}
			}
		}
	}
}

// TestBansStillMeanSomething fails for a ban whose scope, exception or target
// is gone: a rule about nothing would be kept forever.
func TestBansStillMeanSomething(t *testing.T) {
	for _, b := range bans {
		for _, pat := range slices.Concat(b.scope, b.except) {
			if !slices.ContainsFunc(packages(t), func(p *pkg) bool { return matches(pat, p.path) }) {
				t.Errorf("the ban on %s names %s, which no longer exists: correct the ban", b.target, pat)
			}
		}
		for _, target := range append([]string{b.target}, b.but...) {
			if strings.HasPrefix(target, module) && !exists(t, target) {
				t.Errorf("a ban on %s names %s, which no longer exists: correct the ban", b.target, target)
			}
		}
	}
	gomod := read(t, "go.mod")
	for _, b := range bans {
		first, _, _ := strings.Cut(b.target, "/")
		if !strings.Contains(first, ".") || strings.HasPrefix(b.target, module) {
			continue // the standard library, and ours
		}
		if !strings.Contains(gomod, strings.TrimSuffix(b.target, "/...")) {
			t.Errorf("a ban on %s, which go.mod does not know: take the ban out", b.target)
		}
	}
}

func TestTestPackagesAreImportedByTestsOnly(t *testing.T) {
	for _, p := range packages(t) {
		if testOnly[p.path] != "" {
			continue
		}
		for _, imp := range p.imports {
			to := strings.TrimPrefix(imp, module)
			if testOnly[to] != "" {
				t.Errorf("%s imports %s, which is for tests (%s): it must not be in a binary", p.path, to, testOnly[to])
			}
		}
		if strings.HasSuffix(path.Base(p.path), "test") {
			t.Errorf("%s is named like a package for tests: add it to testOnly in e2e/tree/tree_test.go, or name it otherwise", p.path)
		}
	}
	for path := range testOnly {
		if !exists(t, module+path) {
			t.Errorf("testOnly names %s, which no longer exists: take it out", path)
		}
	}
}

func tableKey(path string) (string, bool) {
	if _, ok := allowed[path]; ok {
		return path, true
	}
	for key := range allowed {
		if matches(key, path) {
			return key, true
		}
	}
	return "", false
}

func exists(t *testing.T, pattern string) bool {
	return slices.ContainsFunc(packages(t), func(p *pkg) bool { return matches(pattern, module+p.path) })
}

func anyMatch(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pat string) bool { return matches(pat, path) })
}

// matches reports whether a path is the pattern's: "a/b" is itself, "a/..." is a
// and everything below, "..." is everything.
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	return pattern == path
}
