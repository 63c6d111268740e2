package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "heddle.io/heddle/"

// A pkg is one package of this module.
type pkg struct {
	path    string // without the module's prefix: "dataplane/plan"
	name    string
	dir     string
	imports []string // of the code that ships, full import paths
	tests   []string // of its tests
	files   []*file
}

// A file is one parsed Go file.
type file struct {
	path      string // from the root of the repository
	test      bool   // _test.go, or in a package that only tests import
	generated bool
	fset      *token.FileSet
	ast       *ast.File
	src       []byte
}

// testOnly are the packages that exist for tests: their files may do what
// tests may, and only tests may import them.
var testOnly = map[string]string{
	"bpf/bpftest":                    "BPF objects loaded for a test",
	"dataplane/feed/feedtest":        "a control plane in the test's own process",
	"dataplane/nettest":              "throw-away namespaces, cgroups and pins",
	"dataplane/state/statetest":      "snapshots from text",
	"e2e/bench":                      "measures what the built binaries cost",
	"e2e/bench/load":                 "the traffic of the bench",
	"e2e/cluster":                    "a real Kubernetes cluster on this machine",
	"e2e/cluster/fetch":              "an HTTP client in a pod of that cluster",
	"e2e/cluster/pause":              "the first process of a pod of that cluster",
	"e2e/cluster/runtime":            "what starts containers in that cluster",
	"e2e/cluster/up":                 "brings up that cluster by hand",
	"e2e/golden":                     "files of expected text",
	"e2e/kernels":                    "runs the kernel tests on other kernels",
	"e2e/peer":                       "the traffic of the scenarios",
	"e2e/scale":                      "measures a large cluster",
	"e2e/scale/kube":                 "measures one on Kubernetes",
	"controlplane/source/sourcetest": "an API server in the test's own process",
	"e2e/semantics":                  "compares what applications see with plain TCP",
}

// root is the repository's directory: tests run in e2e/tree.
var root = sync.OnceValue(func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
})

var loadPackages = sync.OnceValues(func() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + stderr.String())
	}
	var all []*pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l struct {
			ImportPath, Name, Dir                              string
			Imports, TestImports, XTestImports                 []string
			GoFiles, TestGoFiles, XTestGoFiles, IgnoredGoFiles []string
		}
		if err := dec.Decode(&l); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		p := &pkg{
			path: strings.TrimPrefix(l.ImportPath, module), name: l.Name, dir: l.Dir,
			imports: l.Imports, tests: append(l.TestImports, l.XTestImports...),
		}
		// Ignored files are those behind a build tag: the rules hold for them too.
		for _, names := range [][]string{l.GoFiles, l.TestGoFiles, l.XTestGoFiles, l.IgnoredGoFiles} {
			for _, name := range names {
				f, err := parse(filepath.Join(l.Dir, name))
				if err != nil {
					return nil, err
				}
				f.test = f.test || testOnly[p.path] != ""
				p.files = append(p.files, f)
			}
		}
		all = append(all, p)
	}
})

// packages returns every package of the module.
func packages(t *testing.T) []*pkg {
	t.Helper()
	all, err := loadPackages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parse(path string) (*file, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root(), path)
	if err != nil {
		return nil, err
	}
	return &file{
		path: rel, fset: fset, ast: f, src: src,
		test: strings.HasSuffix(path, "_test.go"), generated: ast.IsGenerated(f),
	}, nil
}

// uses reports every use of a package's name ("time", "Sleep") in a file, by
// line. The import is looked up, so a renamed one is found too.
func (f *file) uses(importPath string, names ...string) []int {
	local := ""
	for _, imp := range f.ast.Imports {
		if strings.Trim(imp.Path.Value, `"`) != importPath {
			continue
		}
		local = importPath[strings.LastIndex(importPath, "/")+1:]
		if imp.Name != nil {
			local = imp.Name.Name
		}
	}
	if local == "" {
		return nil
	}
	var lines []int
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); !ok || x.Name != local {
			return true
		}
		for _, name := range names {
			if sel.Sel.Name == name {
				lines = append(lines, f.fset.Position(sel.Pos()).Line)
			}
		}
		return true
	})
	return lines
}

// tracked lists the files of the working tree that belong to the project, from
// the root, leaving out dot directories.
func tracked(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			rel, err := filepath.Rel(root(), path)
			if err != nil {
				return err
			}
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// read returns a file's text; name is from the root.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
