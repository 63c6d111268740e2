package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSuiteNamesTests: a test that is renamed shows here, not minutes later.
func TestSuiteNamesTests(t *testing.T) {
	for _, p := range suite {
		known := testsOf(t, filepath.Join("..", "..", p.Package))
		named := slices.Concat(p.Must, p.Heavy)
		for _, tests := range p.Without {
			named = append(named, tests...)
		}
		for _, name := range named {
			if top, _, _ := strings.Cut(name, "/"); top != "*" && !slices.Contains(known, top) {
				t.Errorf("the suite names %s of %s, which is gone: correct e2e/kernels/suite.go", name, p.Package)
			}
		}
		for _, name := range p.Must {
			if slices.Contains(p.Heavy, name) {
				t.Errorf("%s of %s must run and is left out", name, p.Package)
			}
		}
	}
}

func testsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || files == nil {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

func TestArguments(t *testing.T) {
	p := program{
		Package: "a/b",
		Without: map[string][]string{"tcx": {"*/tcx", "TestB"}, "other": {"TestOther"}},
		Heavy:   []string{"TestA/x.y"},
	}
	always := []string{"-test.v", "-test.timeout=" + programTimeout.String()}
	for _, test := range []struct {
		only string
		off  []string
		want []string
	}{
		{"", nil, []string{`-test.skip=^TestA$/^x\.y$`}},
		{"", []string{"tcx", "unknown"}, []string{`-test.skip=^TestB$|/^tcx$|^TestA$/^x\.y$`}},
		{"^TestC$", nil, []string{"-test.run=^TestC$", `-test.skip=^TestA$/^x\.y$`}},
	} {
		if got := p.arguments(test.only, test.off); !slices.Equal(got, append(slices.Clone(always), test.want...)) {
			t.Errorf("without %q: %q, want %q", test.off, got, test.want)
		}
	}
	if p.binary() != "b.test" {
		t.Errorf("the binary is %s", p.binary())
	}
}
