package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/install/client"
)

// topFlags are the flags that every `heddlectl top` has.
type topFlags struct {
	interval time.Duration
	once     bool
	rows     int
	sort     string
}

// topReport is what `top -o json` prints; all numbers are sums over the nodes
// that answered.
type topReport[T any] struct {
	Seconds float64  `json:"seconds"` // over which rates were taken
	Rows    []T      `json:"rows"`
	Left    int      `json:"left,omitempty"`   // rows beyond --rows
	Errors  []string `json:"errors,omitempty"` // who could not be asked
}

func (a *app) topCommand() *cobra.Command {
	top := &cobra.Command{
		Use:   "top",
		Short: "Show what pods and services do now, from the kernel's counters",
		Long: `Show what pods and services do now, from the kernel's counters.

Rates are the difference of two readings. On a terminal the table is drawn anew
after each interval, until Ctrl-C; elsewhere, and with --once, one is printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage{fmt.Errorf("top what? pods or services")}
		},
	}
	var pods, services topFlags
	topPods := &cobra.Command{
		Use:   "pods",
		Short: "Bytes and packets of each pod",
		Long: `Bytes and packets of each pod, counted on its interface and on the fast path.

Sort by bytes, packets, dropped or name.`,
		Example: "  heddlectl top pods\n  heddlectl top pods --once -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runTop(cmd.Context(), a, &pods, podOrders, (*client.Agent).Pods, podRates, renderTopPods)
		},
	}
	topServices := &cobra.Command{
		Use: "services", Aliases: []string{"routes"},
		Short: "Connections of each service port: new, open, refused",
		Long: `Connections of each service port: new, open, refused.

Sort by connections, open, refused or name.`,
		Example: "  heddlectl top services\n  heddlectl top services --sort open --interval 5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runTop(cmd.Context(), a, &services, serviceOrders, (*client.Agent).Services, serviceRates, renderTopServices)
		},
	}
	pods.register(topPods, "bytes")
	services.register(topServices, "connections")
	top.AddCommand(topPods, topServices)
	return top
}

func (f *topFlags) register(c *cobra.Command, order string) {
	c.Flags().DurationVar(&f.interval, "interval", time.Second, "between two readings, 100ms to 1m")
	c.Flags().BoolVar(&f.once, "once", false, "print one table and end")
	c.Flags().IntVar(&f.rows, "rows", 20, "rows at most")
	c.Flags().StringVar(&f.sort, "sort", order, "column, the largest first")
}

// runTop reads twice and shows the difference, again and again on a terminal.
func runTop[T, R any](ctx context.Context, a *app, f *topFlags, orders map[string]func(a, b R) int,
	question func(*client.Agent, context.Context) ([]T, error), rates func(old, new []answer[T]) []R, render func(io.Writer, *topReport[R])) error {
	order := orders[f.sort]
	switch {
	case order == nil:
		return usage{fmt.Errorf("--sort %q: use %s", f.sort, strings.Join(slices.Sorted(maps.Keys(orders)), ", "))}
	case f.interval < 100*time.Millisecond || f.interval > time.Minute:
		return usage{fmt.Errorf("--interval %s: use 100ms to 1m", f.interval)}
	case f.rows < 1:
		return usage{fmt.Errorf("--rows %d: use 1 or more", f.rows)}
	}
	t, err := a.targets(ctx)
	if err != nil {
		return err
	}
	height := a.terminal()
	old, _, err := read(ctx, a, t, question)
	if err != nil {
		return err
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if ctx.Err() != nil {
			return left(ctx, height)
		}
		now, errs, err := read(ctx, a, t, question)
		if ctx.Err() != nil {
			return left(ctx, height)
		}
		if err != nil {
			return err
		}
		report := &topReport[R]{Seconds: f.interval.Seconds(), Rows: rates(old, now), Errors: errs}
		again := height > 0 && !f.once && a.output == "table"
		rows := f.rows
		if again {
			rows = min(rows, max(height-4, 1))
			fmt.Fprint(a.out, "\x1b[H\x1b[J") // to the top, and clear
		}
		slices.SortStableFunc(report.Rows, order)
		report.Left = max(len(report.Rows)-rows, 0)
		report.Rows = report.Rows[:len(report.Rows)-report.Left]
		if err := a.print(report, func(w io.Writer) { render(w, report) }); err != nil || !again {
			if err == nil && len(errs) > 0 {
				return &problem{exitUnreachable}
			}
			return err
		}
		old = now
	}
}

// left ends a table that is drawn again and again: Ctrl-C is how one leaves it.
func left(ctx context.Context, height int) error {
	if height > 0 {
		return nil
	}
	return ctx.Err()
}

// read asks every agent. It fails when none answers; otherwise the complaints
// go into the report.
func read[T any](ctx context.Context, a *app, t *targets, question func(*client.Agent, context.Context) ([]T, error)) ([]answer[T], []string, error) {
	list, err := askAll(ctx, a, t, question)
	switch {
	case err == nil:
		return list, nil, nil
	case len(list) == 0:
		return nil, nil, err
	}
	return list, strings.Split(err.Error(), "\n"), nil
}

// terminal is the height of the terminal that we write to, 0 for none.
func (a *app) terminal() int {
	f, ok := a.out.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Row == 0 { // a terminal that does not say
		return 24
	}
	return int(size.Row)
}
