// Command semantics runs the application-semantics table over the built binaries
// and prints the comparison: what applications see through Heddle, in each of
// its modes, beside what they see over plain TCP.
//
//	runner ── asks for sockets ──► a process in each pod (its cgroup and namespace)
//	   │
//	   └─ runs the rows of dataplane/semantics: pod to pod, outside the mesh
//	                                            enrolled pods, by service address
//
// Run it from the root of the repository, as root: make semantics, or
//
//	go run ./e2e/semantics -mode=mesh -o table.md
//
// It exits with 1 when the default mode differs from plain TCP. How to read the
// table, and how to add a row: README.md beside this file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"heddle.io/heddle/dataplane/semantics"
)

// errDiffers is a table in which the default mode is not plain TCP.
var errDiffers = errors.New("the default mode differs from plain TCP")

type options struct {
	modes     []mode
	rows      []semantics.Row
	only      func(setting) bool // settings to measure; nil: all
	conntrack bool
	json      bool
	out       string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == makeSockets {
		if err := serveSockets(3); err != nil {
			fmt.Fprintln(os.Stderr, "semantics:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "semantics:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "semantics:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("semantics", flag.ContinueOnError)
	names := flags.String("mode", strings.Join(usual, ","), "modes to compare with plain TCP, of "+strings.Join(modeNames(), ", "))
	short := flags.Bool("short", false, "only the rows that agents run at start")
	flags.BoolVar(&o.conntrack, "conntrack", true, "rules like kube-proxy's in the nodes, with connection tracking (needs nft)")
	flags.BoolVar(&o.json, "json", false, "JSON instead of Markdown")
	flags.StringVar(&o.out, "o", "", "file to write to (default standard output)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.rows = semantics.All()
	if *short {
		o.rows = semantics.Short()
	}
	o.modes, err = pick(strings.Split(*names, ","))
	return o, err
}

// run makes the table and writes it; a table that differs is written too.
func run(ctx context.Context, o options) error {
	bin, err := os.MkdirTemp("", "heddle-semantics-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := build(ctx, bin); err != nil {
		return err
	}
	t, err := measure(ctx, o, bin)
	if err != nil {
		return err
	}
	var out io.Writer = os.Stdout
	if o.out != "" {
		if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
			return err
		}
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	if o.json {
		err = t.writeJSON(out)
	} else {
		err = t.writeMarkdown(out)
	}
	if err == nil && t.differing(theDefault) > 0 {
		err = errDiffers
	}
	return err
}

func build(ctx context.Context, bin string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+"/", "./cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Heddle's binaries (run this from the root of the repository): %w\n%s", err, out)
	}
	return nil
}
