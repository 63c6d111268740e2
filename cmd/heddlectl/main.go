// Command heddlectl looks at Heddle, explains its decisions and plays a
// cluster on one machine.
//
// Exit codes: 0 all is well; 1 a problem was found or the thing asked about is
// refused; 2 the command line is wrong; 3 an agent or the controller cannot be
// reached. `sandbox exec` ends with the code of its command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/kube"
	"heddle.io/heddle/install/sandbox"
)

const (
	exitProblem     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitInterrupted = 130 // as a shell says it of SIGINT
)

// app is what the commands share: where to write and whom to ask.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	name     string // how we were called

	output     string // table, json or yaml
	namespace  string
	node       string
	socket     string // of an agent
	controller string // socket
	sandbox    string // name
	sandboxDir string
	kube       kube.Options
	system     string // namespace of Heddle in a cluster
	started    bool   // the command line was understood
}

// problem is an outcome that the output has told already: only the exit code
// is left to say.
type problem struct{ code int }

func (p *problem) Error() string { return fmt.Sprintf("exit code %d", p.code) }

// usage marks an error as one of the command line.
type usage struct{ error }

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, name: os.Args[0]}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var told *problem
	if errors.As(err, &told) {
		return told.code
	}
	if ctx.Err() != nil { // whatever the interruption broke
		fmt.Fprintln(a.err, "heddlectl: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(a.err, "heddlectl:", err)
	return a.exitCode(err)
}

func (a *app) exitCode(err error) int {
	var (
		gone  *client.Unreachable
		notUp *sandbox.NotUp
		away  *kube.Unreachable
		wrong usage
	)
	switch {
	case !a.started || errors.As(err, &wrong):
		return exitUsage
	case errors.As(err, &gone), errors.As(err, &notUp), errors.As(err, &away), errors.Is(err, errNobody):
		return exitUnreachable
	}
	return exitProblem
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "heddlectl",
		Short: "Look at Heddle, ask it why, and try it on one machine",
		Long: `Look at Heddle, ask it why, and try it on one machine.

Whom a command asks: the sockets or the sandbox or the cluster that is named
(--socket, --sandbox, --kubeconfig, --context); else the sandbox "heddle" when it
is up; else this node's agent (/run/heddle); else the cluster of $KUBECONFIG or
~/.kube/config, with your own rights there.

Exit codes: 0 all is well, 1 a problem was found or the connection asked about
is refused, 2 the command line is wrong, 3 nobody can be reached.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			switch a.output {
			case "table", "json", "yaml":
				a.started = true
				return nil
			}
			return fmt.Errorf("--output %q: use table, json or yaml", a.output)
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	f.StringVarP(&a.namespace, "namespace", "n", "default", "namespace of names that carry none")
	f.StringVar(&a.node, "node", "", "only this node")
	f.StringVar(&a.socket, "socket", "", "admin socket of an agent (default /run/heddle/agent.sock)")
	f.StringVar(&a.controller, "controller-socket", "", "admin socket of the controller (default /run/heddle/controller.sock)")
	f.StringVar(&a.sandbox, "sandbox", "", "name of a sandbox")
	f.StringVar(&a.sandboxDir, "sandbox-dir", "", "directory of the sandbox (default /run/NAME-sandbox)")
	_ = f.MarkHidden("sandbox-dir")
	f.StringVar(&a.kube.Kubeconfig, "kubeconfig", "", "kubeconfig of a cluster (default $KUBECONFIG, then ~/.kube/config)")
	f.StringVar(&a.kube.Context, "context", "", "context of the kubeconfig")
	f.StringVar(&a.system, "system-namespace", kube.SystemNamespace, "namespace of Heddle in the cluster")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.demoCommand(), a.sandboxCommand(),
		a.statusCommand(), a.describeCommand(), a.getCommand(), a.whyCommand(), a.topCommand(), a.sysdumpCommand(),
		a.versionCommand(), a.echoCommand(), a.loadCommand(),
	)
	return root
}
