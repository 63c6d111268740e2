package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/rollout"
)

func (a *app) uninstallCommand() *cobra.Command {
	var purge, force bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Take Heddle off every node and out of the cluster",
		Long: `Take Heddle off every node and out of the cluster, while pods run and their
connections go on. First a pod on every node removes programs, pins, the CNI
plugin and the agent's state; then everything is deleted. --purge also deletes
Heddle's definitions with every object of their kinds, and its labels from
namespaces and pods.

Interrupted, it goes on where it was when it is run again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return a.uninstall(ctx, purge, force)
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "definitions, their objects, and labels too")
	c.Flags().BoolVar(&force, "force", false, "go on although nodes could not be cleaned; they keep what is pinned until they start again")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for the nodes")
	return c
}

func (a *app) uninstall(ctx context.Context, purge, force bool) error {
	c, _, err := a.rollout()
	if err != nil {
		return err
	}
	found, err := c.Look(ctx)
	if err != nil {
		return err
	}
	if found.Agent != "" {
		options := found.Options
		options.Version = found.Agent
		err := c.Clean(ctx, options)
		var late *rollout.Late
		switch {
		case errors.As(err, &late) && force && !errors.Is(err, context.Canceled):
			fmt.Fprintf(a.err, "%v; going on\n", err)
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
		case errors.As(err, &late):
			return fmt.Errorf("%w; nodes that are gone for good: --force", err)
		case err != nil:
			return err
		}
	}
	if err := c.Remove(ctx, purge); err != nil {
		return err
	}
	if !purge {
		fmt.Fprintln(a.out, "Heddle is uninstalled; its definitions and your objects and labels stay (--purge removes them)")
		return nil
	}
	n, err := c.Unlabel(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "Heddle is uninstalled; labels removed from %s; those in templates of workloads are yours to remove\n", plural(n, "object"))
	return nil
}
