package tree

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A call is a use of another package that some packages do without.
type call struct {
	pkg     string
	names   []string
	scope   []string
	except  []string
	instead string
}

var calls = []call{
	{pkg: "time", names: []string{"Sleep", "After", "Tick"}, scope: []string{"..."},
		instead: "wait with a time.Timer or time.Ticker in a select that also ends with the context: a sleep cannot be cancelled, and time.After leaks its timer until it fires"},
	{pkg: "time", names: []string{"Now", "Since", "Until", "NewTimer", "NewTicker", "AfterFunc"}, scope: pure,
		instead: "take the time as an argument: " + pureReason},
	{pkg: "os", names: []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, scope: []string{"..."}, except: []string{"cmd/..."},
		instead: "the environment is read in cmd only: take an Options struct"},
	{pkg: "os", names: []string{"Exit"}, scope: []string{"..."}, except: []string{"cmd/..."},
		instead: "return an error: only main ends the process"},
	{pkg: "fmt", names: []string{"Print", "Printf", "Println"}, scope: []string{"..."}, except: []string{"cmd/..."},
		instead: "write to an io.Writer that the caller hands in, or log with slog"},
}

// TestCalls holds for what ships; tests may sleep and exit.
func TestCalls(t *testing.T) {
	for _, p := range packages(t) {
		for _, c := range calls {
			if !anyMatch(c.scope, p.path) || anyMatch(c.except, p.path) {
				continue
			}
			for _, f := range p.files {
				if f.test || f.generated {
					continue
				}
				for _, name := range c.names {
					for _, line := range f.uses(c.pkg, name) {
						t.Errorf("%s:%d uses %s.%s: %s", f.path, line, c.pkg, name, c.instead)
					}
				}
			}
		}
	}
}

// TestTLSPolicyIsInIdentity: everybody may hand a *tls.Config on, only identity
// decides what is in one.
func TestTLSPolicyIsInIdentity(t *testing.T) {
	for _, p := range packages(t) {
		if matches("identity/...", p.path) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, line := range f.uses("crypto/tls", "Config") {
				if inLiteral(f, line) {
					t.Errorf("%s:%d builds a tls.Config: versions, ciphers and verification are decided in identity/mtls, ask it for one", f.path, line)
				}
			}
		}
	}
}

// inLiteral reports whether a composite literal's type stands on the line.
func inLiteral(f *file, line int) bool {
	found := false
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && lit.Type != nil && f.fset.Position(lit.Type.Pos()).Line == line {
			if sel, ok := lit.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Config" {
				found = true
			}
		}
		return true
	})
	return found
}

// TestSkipsComeFromOnePlace: a test that can be skipped for any reason is a test
// that one day never runs. dataplane/nettest has the only reasons.
func TestSkipsComeFromOnePlace(t *testing.T) {
	for _, p := range packages(t) {
		if p.path == "dataplane/nettest" {
			continue
		}
		for _, f := range p.files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if ok && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
					t.Errorf("%s:%d skips a test: call nettest.RequireBPF or nettest.RequireRoot, which skip only where nothing else is possible; anything else that is missing must fail the test", f.path, f.fset.Position(sel.Pos()).Line)
				}
				return true
			})
		}
	}
}

func TestPackagesHaveADoc(t *testing.T) {
	for _, p := range packages(t) {
		var docs []string
		code := 0
		for _, f := range p.files {
			if !strings.HasSuffix(f.path, "_test.go") && !f.generated {
				code++
			}
			if f.ast.Doc != nil && !f.generated && f.ast.Name.Name == p.name {
				docs = append(docs, filepath.Base(f.path))
			}
		}
		want := "doc.go"
		if p.name == "main" {
			want = "main.go"
		}
		if code == 1 && len(docs) == 1 {
			continue // a package of one file says there what it is
		}
		if !slices.Equal(docs, []string{want}) {
			t.Errorf("package %s has its package comment in %q: it belongs into %s alone, a few lines on what the package is for and what it leaves to others", p.path, docs, want)
		}
	}
}

// version is the form of a directory of one API version, the only names with a
// number that mean something.
var version = regexp.MustCompile(`^v[0-9]+((alpha|beta)[0-9]+)?$`)

func TestPackageNames(t *testing.T) {
	empty := []string{"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "shared", "base", "lib"}
	banned := append([]string{"types", "internal", "pkg"}, empty...) // packages only
	for _, p := range packages(t) {
		for _, part := range strings.Split(p.path, "/") {
			if slices.Contains(banned, part) {
				t.Errorf("package %s: %q says nothing about what is inside; name it after the one thing that it holds", p.path, part)
			}
			if version.MatchString(part) && !strings.HasPrefix(p.path, "api/") {
				t.Errorf("package %s: only packages below api have a version in their name; change the code there is instead of keeping two", p.path)
			}
		}
		for _, f := range p.files {
			stem := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(f.path), ".go"), "_test")
			if slices.Contains(empty, stem) {
				t.Errorf("%s: %q says nothing about what is inside; name the file after the concept", f.path, stem)
			}
		}
	}
}

// TestTopLevel: the layout is fixed, so that everybody knows where things are.
func TestTopLevel(t *testing.T) {
	known := []string{
		"cmd", "bpf", "controlplane", "dataplane", "identity", "api", "install", "e2e",
		"go.mod", "go.sum", "README.md", "Makefile", "LICENSE", "CONTRIBUTING.md",
	}
	entries, err := os.ReadDir(root())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(known, e.Name()) {
			t.Errorf("%s at the top of the repository: the top level is fixed, put it into one of %q", e.Name(), known[:8])
		}
	}
}

func TestKernelSourcesSayTheirLicence(t *testing.T) {
	const tag = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
	for _, name := range tracked(t) {
		if ext := filepath.Ext(name); ext == ".c" || ext == ".h" {
			if first, _, _ := strings.Cut(read(t, name), "\n"); first != "// "+tag && first != "/* "+tag+" */" {
				t.Errorf("%s: the first line must be a comment of %q", name, tag)
			}
		}
	}
}

// TestGeneratedFilesSaySo: names that generators write must carry the mark that
// linters and readers look for, and every object has its Go half.
func TestGeneratedFilesSaySo(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.files {
			name := filepath.Base(f.path)
			if (strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, "_bpfel.go") || strings.HasPrefix(name, "zz_generated")) && !f.generated {
				t.Errorf("%s is named like a generated file but has no \"Code generated … DO NOT EDIT.\" line: run make generate, or rename it", f.path)
			}
		}
	}
	for _, name := range tracked(t) {
		if object, ok := strings.CutSuffix(name, ".o"); ok {
			if _, err := os.Stat(filepath.Join(root(), object+".go")); err != nil {
				t.Errorf("%s has no %s.go beside it: commit both halves of what bpf2go writes", name, object)
			}
		}
	}
}

// TestNoRegistryHosts: where packages come from is set up by whoever builds, in
// the environment of the build, and not written into the project.
func TestNoRegistryHosts(t *testing.T) {
	host := regexp.MustCompile(`(?i)\b(proxy\.golang\.org|sum\.golang\.org|deb\.debian\.org|archive\.ubuntu\.com|registry\.npmjs\.org|pypi\.org|crates\.io)\b`)
	for _, name := range tracked(t) {
		if name == filepath.Join("e2e", "tree", "rules_test.go") || filepath.Ext(name) == ".o" {
			continue
		}
		if found := host.FindString(read(t, name)); found != "" {
			t.Errorf("%s names %s: leave package sources to the configuration of the machine", name, found)
		}
	}
}

// TestNothingIsLeftForLater: what is not done is an issue, not a comment.
func TestNothingIsLeftForLater(t *testing.T) {
	word := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	for _, name := range tracked(t) {
		switch filepath.Ext(name) {
		case ".go", ".c", ".h", ".md", ".sh", ".proto", ".yaml":
			if found := word.FindString(read(t, name)); found != "" {
				t.Errorf("%s has a %s: do it now, or file an issue and leave the comment out", name, found)
			}
		}
	}
}
