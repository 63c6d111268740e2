package condition_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/source"
	"heddle.io/heddle/controlplane/translate"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// TestGolden reads testdata/NAME.in.yaml, in which a line "# behind: NODE RESOURCE"
// tells of a node that has not acknowledged one, and compares the conditions with
// NAME.out.txt.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".in.yaml"), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, o := range condition.Build(read(t, string(text))) {
				got.WriteString(o.String())
			}
			golden := strings.TrimSuffix(input, ".in.yaml") + ".out.txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; run go test -update, then read what it wrote", err)
			}
			if got.String() != string(want) {
				t.Errorf("not what %s says; if it should be, run go test -update and look at the difference\n%s", golden, got.String())
			}
		})
	}
}

// read reads objects the way the controller does. Nodes have what they need unless
// the text says otherwise.
func read(t *testing.T, text string) condition.Input {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := source.New(source.Options{Path: dir})
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	u := <-d.Updates()
	cancel()
	<-done
	result := translate.Build(u.Snapshot)
	in := condition.Input{
		Snapshot: u.Snapshot, Problems: slices.Concat(u.Problems, result.All),
		Carriers: condition.Find(u.Snapshot, result), Progress: make(map[condition.Ref]condition.Progress),
	}
	behind := make(map[string]bool)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "# behind: "); ok {
			behind[rest] = true
		}
	}
	for _, r := range result.Resources {
		var p condition.Progress
		for node, audiences := range result.Audiences {
			if !slices.ContainsFunc(r.Audiences, func(a string) bool { return slices.Contains(audiences, a) }) {
				continue
			}
			p.Needs = append(p.Needs, node)
			if !behind[node+" "+r.Name] {
				p.Has = append(p.Has, node)
			}
		}
		in.Progress[condition.Ref{Type: r.Type, Name: r.Name}] = p
	}
	return in
}

func TestReportsAreMerged(t *testing.T) {
	a, b := condition.Ref{Type: "S", Name: "a"}, condition.Ref{Type: "S", Name: "b"}
	other := condition.Tell(map[condition.Ref]condition.Progress{
		a: {Version: "1", Has: []string{"n2", "n3"}},
		b: {Version: "old", Has: []string{"n3"}},
	})
	own := map[condition.Ref]condition.Progress{
		a: {Version: "1", Has: []string{"n1"}},
		b: {Version: "new", Has: []string{"n1"}},
	}
	condition.Merge(own, other)
	if got := own[a].Has; !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Errorf("the same version: %v", got)
	}
	if got := own[b].Has; !slices.Equal(got, []string{"n1"}) {
		t.Errorf("another version: %v", got)
	}
	same := map[condition.Ref]condition.Progress{b: {Version: "old"}}
	condition.Merge(same, other)
	if got := same[b].Has; !slices.Equal(got, []string{"n3"}) {
		t.Errorf("a node that lacks it is counted: %v", got)
	}
}
