package translate_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heddle.io/heddle/controlplane/source"
	"heddle.io/heddle/controlplane/source/sourcetest"
	"heddle.io/heddle/controlplane/translate"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// TestGolden translates testdata/NAME.in.yaml and compares with NAME.out.txt.
// Each pair shows one behaviour.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		name := strings.TrimSuffix(filepath.Base(input), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			got := run(t, input)
			if other := runKubernetes(t, input); other != got && !fromPods[name] {
				t.Errorf("an API server with these objects gives\n%s\nand a directory\n%s", other, got)
			}
			golden := strings.TrimSuffix(input, ".in.yaml") + ".out.txt"
			if n := strings.Count(got, "\n"); n > 150 {
				t.Errorf("%d lines of output: make the input smaller, one behaviour each", n)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; run go test -update, then read what it wrote", err)
			}
			if got != string(want) {
				t.Errorf("not what %s says; if it should be, run go test -update and look at the difference\n%s", golden, got)
			}
		})
	}
}

// fromPods are the inputs with a Service that gets its endpoints from pods: with
// an API server, that is left to its EndpointSlices.
var fromPods = map[string]bool{"service_from_pods": true, "service_dual_stack": true}

// runKubernetes has the objects in an API server.
func runKubernetes(t *testing.T, input string) string {
	t.Helper()
	text, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	server := sourcetest.Start(t)
	server.Install()
	server.Put(string(text))
	k, err := source.NewKubernetes(server.Config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	u := <-k.Updates()
	cancel()
	<-done
	for _, p := range u.Problems {
		t.Errorf("the input is refused: %s %s: %s", p.Object, p.Reason, p.Detail)
	}
	if u.Snapshot == nil {
		t.Fatalf("no snapshot: %v", u.Err)
	}
	return translate.Build(u.Snapshot).String()
}

// run reads the objects the way the controller does, and translates them twice:
// the result must not depend on the order of a map.
func run(t *testing.T, input string) string {
	t.Helper()
	text, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "objects.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := source.New(source.Options{Path: dir})
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	u := <-d.Updates()
	cancel()
	<-done
	for _, p := range u.Problems {
		t.Errorf("the input is refused: %s %s: %s", p.Object, p.Reason, p.Detail)
	}
	out := translate.Build(u.Snapshot).String()
	for range 5 {
		if again := translate.Build(u.Snapshot).String(); again != out {
			t.Fatalf("another result the next time:\n%s\nthe first time:\n%s", again, out)
		}
	}
	return out
}
