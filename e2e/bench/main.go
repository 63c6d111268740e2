// Command bench measures what Heddle costs: requests, streams and connections
// between two pods of one node, without a mesh, with it, and through the proxies
// that others put there. Its method, and how to read what it prints, is in
// README.md beside it.
//
//	run      worlds ─► rounds ─► report ─► Markdown, JSON, goals, comparison
//	world    a sandbox: node1 with conntrack and rules like kube-proxy's, node2 bare
//	variant  a pair of pods in a world, and the way between them
//	round    every variant once, in turns: fresh server, proxy and client (package load)
//	cell     one kind of traffic for about a second, between two looks at the CPU clocks
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"heddle.io/heddle/e2e/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command(ctx, os.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// command runs a command line. Inside the pods it is a server or a client.
func command(ctx context.Context, args []string) error {
	if len(args) > 1 {
		switch args[1] {
		case "serve", "play":
			return traffic(args[1], args[2:])
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return bench(ctx, o, os.Stdout)
}

func traffic(what string, args []string) error {
	fs := flag.NewFlagSet(what, flag.ContinueOnError)
	cpu := fs.Int("cpu", 0, "core to run on")
	threads := fs.Int("threads", maxConnections+4, "connections at the same time")
	port := fs.Int("port", 0, "port to listen on")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if what == "serve" {
		return load.Serve(os.Stdin, os.Stdout, *cpu, *port, *threads)
	}
	return load.Play(os.Stdin, os.Stdout, *cpu, *threads)
}

// Options are what a run can be told.
type Options struct {
	Self   string // the program that pods run: this one
	Bin    string // directory of heddled, heddle-controller and heddlectl
	Name   string // prefix of the sandboxes' names
	Rounds int
	Cell   time.Duration // that counts
	Warm   time.Duration // before it, that does not
	Split  bool          // the client on Core, the server on the next one
	Core   int
	// Congestion control of every socket.
	Congestion string
	Only       []string // variants, by name; none: all
	Out        string   // directory for the report; none: only shown
	Check      string   // an earlier report to compare with
	Command    string   // the command line, for the report
}

func parse(args []string) (*Options, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	o := &Options{Self: self, Name: "heddle-bench", Command: strings.Join(args, " ")}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	mode, only := "one", ""
	fs.IntVar(&o.Rounds, "rounds", 15, "how often every variant is measured")
	fs.DurationVar(&o.Cell, "cell", 400*time.Millisecond, "how long each kind of traffic is measured")
	fs.DurationVar(&o.Warm, "warm", 100*time.Millisecond, "how long before that it runs without being measured")
	fs.StringVar(&mode, "mode", mode, "one: everything on one core; split: the client on one, the server on the next")
	fs.IntVar(&o.Core, "core", 0, "the (first) core to measure on")
	fs.StringVar(&o.Congestion, "congestion", "reno", "congestion control of every socket (net.ipv4.tcp_available_congestion_control lists them)")
	fs.StringVar(&only, "variants", "", "measure only these, separated by commas (names as in the table), and what they are compared with")
	fs.StringVar(&o.Out, "o", "", "directory to write DATE-KERNEL.md and .json to")
	fs.StringVar(&o.Check, "check", "", "compare with the report of an earlier run (its .json); exit 1 when a median is outside its range")
	fs.StringVar(&o.Bin, "bin", filepath.Dir(self), "directory of the built programs")
	if err := fs.Parse(args[1:]); err != nil {
		return nil, err
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("what is %q? See -help", fs.Arg(0))
	case mode != "one" && mode != "split":
		return nil, fmt.Errorf("mode %q: say one or split", mode)
	case o.Rounds < 1 || o.Rounds > 1000 || o.Cell < time.Millisecond || o.Cell > time.Minute || o.Warm < 0 || o.Warm > time.Minute:
		return nil, errors.New("give 1 to 1000 rounds, cells of 1ms to 1m, and a warm-up of up to 1m")
	}
	if strings.ContainsFunc(o.Congestion, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }) || o.Congestion == "" {
		return nil, fmt.Errorf("congestion control %q: say reno, cubic or bbr", o.Congestion)
	}
	o.Split = mode == "split"
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			o.Only = append(o.Only, name)
		}
	}
	return o, nil
}
