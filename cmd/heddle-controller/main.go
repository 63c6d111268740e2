// Command heddle-controller tells the nodes of a cluster what their kernels need
// to know.
//
// Exit codes: 0 when it was asked to end, 1 when it failed while working, 2 when
// its flags are wrong, 3 when this machine, or its rights on it, do not fit.
// Messages go to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"heddle.io/heddle/controlplane/plane"
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
	// What the controller reads at start is decoded by way of much garbage, and
	// it has the machine's memory, not a share of every node's: it collects at
	// two and a half times what it keeps. GOGC and GOMEMLIMIT still decide when they are
	// set.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(150)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "heddle-controller:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage), errors.Is(err, plane.ErrConfig):
		return exitUsage
	case errors.Is(err, plane.ErrEnvironment):
		return exitEnvironment
	}
	return exitFailed
}
