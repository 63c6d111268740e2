// Command scale measures what Heddle costs in a large cluster: the time, the
// processor time and the memory until everything is in the kernel, and the same
// for one change. It drives the built binaries on the two nodes of the sandbox:
// one needs what changes, the other does not.
//
//	objects (YAML) ──► heddle-controller ──► heddled of node1 ──► kernel maps
//	                                    └──► heddled of node2: no pod of the mesh
//
// README.md says how it measures; world.go what the cluster looks like.
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

	"heddle.io/heddle/install/sandbox"
)

// options are the flags.
type options struct {
	bin, out            string
	services, endpoints int
	rounds, colds       int
	window, idle        time.Duration
}

func main() {
	o := options{}
	flag.StringVar(&o.bin, "bin", ".build/bin", "directory of the built binaries")
	flag.StringVar(&o.out, "o", "", "directory for the report: DATE-KERNEL.md and .json (default only printed)")
	flag.IntVar(&o.services, "services", 10_000, "services, with one port each")
	flag.IntVar(&o.endpoints, "endpoints", 10, "endpoints of each service")
	flag.IntVar(&o.rounds, "rounds", 50, "changes of each kind")
	flag.IntVar(&o.colds, "colds", 3, "starts with nothing in the kernel and on disk")
	flag.DurationVar(&o.window, "window", 600*time.Millisecond, "how long the processor time of one change is counted")
	flag.DurationVar(&o.idle, "idle", 12*time.Second, "how long the processor time without changes is counted")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, o options) error {
	w, err := newWorld(o.services, o.endpoints)
	if err != nil {
		return err
	}
	r := newReport(o, w)
	if err := measure(ctx, o, w, r); err != nil {
		return err
	}
	text := r.markdown()
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return r.save(o.out, text)
}

// measure fills in the report. The sandbox goes away also when it fails.
func measure(ctx context.Context, o options, w *world, r *report) (err error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	s, err := sandbox.New(sandbox.Options{Name: "heddle-scale", Bin: bin, Owned: true})
	if err != nil {
		return err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.Down(down))
	}()
	if err := s.Down(ctx); err != nil { // what a killed run left
		return err
	}
	m := &mesh{Sandbox: s, world: w}
	for n := range o.colds {
		progress("cold start %d of %d", n+1, o.colds)
		c, err := m.cold(ctx)
		if err != nil {
			return fmt.Errorf("cold start %d: %w", n+1, err)
		}
		r.Colds = append(r.Colds, c)
	}
	progress("memory, %s without changes", o.idle)
	if r.Idle, err = m.idle(ctx, o.idle); err != nil {
		return err
	}
	if r.Memory, err = m.memory(ctx); err != nil {
		return err
	}
	for n := range o.rounds {
		if n%10 == 0 {
			progress("changes, round %d of %d", n+1, o.rounds)
		}
		for _, c := range w.round(n) {
			change, err := m.change(ctx, c, o.window)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", n+1, c.kind, err)
			}
			r.Changes = append(r.Changes, change)
		}
	}
	r.After, err = m.memory(ctx)
	return err
}

func progress(format string, args ...any) {
	fmt.Fprintln(os.Stderr, "scale:", strings.TrimSpace(fmt.Sprintf(format, args...)))
}
