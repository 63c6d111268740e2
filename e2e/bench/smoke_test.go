package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/dataplane/nettest"
)

// TestBench is a whole run, too short to mean anything: two variants, each on
// both nodes, and a comparison with itself.
func TestBench(t *testing.T) {
	nettest.RequireBPF(t)
	bin := t.TempDir()
	for _, args := range [][]string{
		{"build", "-o", bin + "/", "./cmd/..."},
		{"build", "-o", filepath.Join(bin, "heddle-bench"), "./e2e/bench"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	o := &Options{Congestion: "reno",
		Self: filepath.Join(bin, "heddle-bench"), Bin: bin, Name: "heddle-bench-test",
		Rounds: 1, Cell: 50 * time.Millisecond, Warm: 10 * time.Millisecond,
		Only: []string{meshDefault}, Out: t.TempDir(), Command: "test",
	}
	var out bytes.Buffer
	if err := bench(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	names, err := filepath.Glob(filepath.Join(o.Out, "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("reports: %v, %v", names, err)
	}
	r, err := readReport(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		row := r.row(s, meshDefault)
		if row == nil {
			t.Fatalf("no row of the mesh with %s:\n%s", s, &out)
		}
		if row.Made == 0 || row.Established != uint64(row.Made) || row.Served != uint64(row.Made) {
			t.Errorf("%s: %d connections, the mesh counted %d, the fast path served %d", s, row.Made, row.Established, row.Served)
		}
		for _, m := range metrics {
			if v := row.Values[m.name]; v.Median <= 0 {
				t.Errorf("%s: %s is %v", s, m.name, v)
			}
		}
	}
	for _, visit := range r.Rounds[0] {
		for _, c := range visit.Cells {
			for _, who := range []string{byClient, byServer} {
				if c.CPU[who] <= 0 {
					t.Errorf("%s, %s: the %s used no CPU", visit.Variant, c.Kind, who)
				}
			}
		}
	}
	left, err := filepath.Glob("/run/netns/" + o.Name + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestUnknownFlagIsSaid: a variant whose agent does not know its flag is left
// out with the agent's own words.
func TestUnknownFlagIsSaid(t *testing.T) {
	bin := t.TempDir()
	agent := "#!/bin/sh\necho 'heddled: usage: unknown flag: --no-such; heddled agent --help lists the flags' >&2\nexit 2\n"
	if err := os.WriteFile(filepath.Join(bin, "heddled"), []byte(agent), 0o755); err != nil {
		t.Fatal(err)
	}
	v := &Variant{Name: "mesh, later", Setting: conntrack, Mesh: true, AgentArgs: []string{"--no-such"}}
	err := (&Report{}).possible(&Options{Bin: bin}, v)
	var un *unavailable
	if !errors.As(err, &un) || !strings.Contains(un.reason, "unknown flag: --no-such") {
		t.Errorf("the variant is possible: %v", err)
	}
}
