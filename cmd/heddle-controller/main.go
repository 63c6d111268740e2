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
	"strconv"
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
	tuneCollector(os.Getenv)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "heddle-controller:", err)
	}
	os.Exit(exitCode(err))
}

// tuneCollector decides when garbage is collected, where GOGC and GOMEMLIMIT do
// not. What the controller reads at start is decoded by way of much garbage, and
// it has the machine's memory, not a share of every node's: it collects at two
// and a half times what it keeps. When hundreds of agents connect at once, all
// decode what they have: near the limit of its container, which the manifest
// passes on as MEMORY_LIMIT in bytes, it collects before the kernel ends it.
func tuneCollector(env func(string) string) {
	if env("GOGC") == "" {
		debug.SetGCPercent(150)
	}
	limit, err := strconv.ParseInt(env("MEMORY_LIMIT"), 10, 64)
	if err == nil && limit > 0 && env("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 10 * 9) // the rest is not of Go's heap
	}
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
