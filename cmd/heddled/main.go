// Command heddled is Heddle on a node.
//
// Exit codes: 0 when it was asked to end, 1 when it failed while working, 2
// when its flags are wrong, 3 when this machine, or its rights on it, do not
// fit. Messages go to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"heddle.io/heddle/dataplane/node"
)

// Exit codes, part of the command's contract.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitEnvironment = 3
)

// errUsage is wrapped by errors in flags and arguments.
var errUsage = errors.New("usage")

func main() {
	// The agent keeps as much as the cluster is large and allocates little: it
	// collects at a third above what it keeps. GOGC and GOMEMLIMIT still decide
	// when they are set.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(33)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "heddled:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage), errors.Is(err, node.ErrConfig):
		return exitUsage
	case errors.Is(err, node.ErrEnvironment):
		return exitEnvironment
	}
	return exitFailed
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "heddled",
		Short:         "Heddle on a node",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return fmt.Errorf("%w: name a command; heddled --help lists them", errUsage)
		},
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; %s --help lists the flags", errUsage, err, c.CommandPath())
	})
	c.AddCommand(agent(), clean(), admin(), health())
	return c
}

func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q; %s --help says more", errUsage, args[0], c.CommandPath())
	}
	return nil
}
