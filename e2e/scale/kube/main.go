// Command kube measures what Heddle's control plane costs a large Kubernetes
// cluster: a real API server with hundreds of fake nodes and thousands of pods,
// the built controller, and one simulated agent for each node, which speaks the
// protocol of the real one and acknowledges at once.
//
//	program ──► API server ──► heddle-controller ──► 300 agents (this process)
//	   └──────────── time of the last acknowledgement ◄────────┘
//
// README.md of e2e/scale says how it measures; world.go what the cluster looks
// like.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"heddle.io/heddle/e2e/cluster"
)

// options are the flags.
type options struct {
	root, bin, out string
	shape          shape
	changes        int
	every          time.Duration
	idle           time.Duration
}

func main() {
	cluster.Main()
	o := options{root: "."}
	flag.StringVar(&o.bin, "bin", ".build/bin", "directory of the built binaries")
	flag.StringVar(&o.out, "o", "", "directory for the report: kube-DATE-KERNEL.md and .json (default only printed)")
	flag.IntVar(&o.shape.Nodes, "nodes", 300, "nodes")
	flag.IntVar(&o.shape.MeshNodes, "mesh-nodes", 200, "nodes that have pods of the mesh")
	flag.IntVar(&o.shape.Services, "services", 1000, "services; every second namespace is in the mesh")
	flag.IntVar(&o.shape.PodsOf, "pods", 5, "pods of each service")
	flag.IntVar(&o.shape.Rollout, "rollout", 200, "services that are rolled out, all their pods")
	flag.IntVar(&o.changes, "changes", 300, "changes of one endpoint")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "one such change in this time")
	flag.DurationVar(&o.idle, "idle", 10*time.Second, "how long the processor time without changes is counted")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale-kube:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, o options) error {
	r := newReport(o)
	if err := measure(ctx, o, r); err != nil {
		return err
	}
	text := r.markdown()
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return r.save(o.out, text)
}

// measure fills in the report. The cluster goes away also when it fails.
func measure(ctx context.Context, o options, r *report) (err error) {
	if err := o.shape.check(); err != nil {
		return err
	}
	b, err := newBed(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.down()) }()

	progress("%d nodes, %d pods, %d services", o.shape.Nodes, o.shape.pods(), o.shape.Services)
	if r.Setup, err = b.world.create(ctx, b.cluster); err != nil {
		return fmt.Errorf("make the cluster's objects: %w", err)
	}
	progress("cold start")
	if r.Cold, err = b.cold(ctx); err != nil {
		return fmt.Errorf("start the controller: %w", err)
	}
	progress("%s without changes", o.idle)
	if r.Idle, err = b.quiet(ctx, o.idle); err != nil {
		return err
	}
	progress("%d changes", o.changes)
	if r.Changes, err = b.changes(ctx, o.changes, o.every); err != nil {
		return fmt.Errorf("changes: %w", err)
	}
	progress("rollout of %d pods", o.shape.Rollout*o.shape.PodsOf)
	if r.Rollout, err = b.rollout(ctx); err != nil {
		return fmt.Errorf("rollout: %w", err)
	}
	if r.Memory, err = b.controller.rss(); err != nil {
		return err
	}
	r.Requests, err = b.requests()
	r.LoadEnd = load()
	return err
}

func progress(format string, args ...any) {
	fmt.Fprintln(os.Stderr, "scale-kube:", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// path is a file of the repository.
func (o options) path(elements ...string) string {
	return filepath.Join(append([]string{o.root}, elements...)...)
}
