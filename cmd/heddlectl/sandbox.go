package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/sandbox"
)

func (a *app) sandboxCommand() *cobra.Command {
	box := &cobra.Command{
		Use:   "sandbox",
		Short: "A two-node playground on this machine, without Kubernetes",
		Long: `A two-node playground on this machine, without Kubernetes.

Each node is a network namespace with an agent of its own, each Pod of the YAML
a network namespace and the real processes named by its containers' command
(images are not pulled). Service addresses are reachable from pods in the mesh:
see them with "heddlectl get routes", or use the variables NAME_SERVICE_HOST and
NAME_SERVICE_PORT that every pod has for the Services that existed before it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage{errors.New("sandbox what? up, down, apply, delete, ps, exec or logs")}
		},
	}
	box.AddCommand(
		a.sandboxUp(), a.sandboxDown(), a.sandboxApply(), a.sandboxDelete(),
		a.sandboxPs(), a.sandboxExec(), a.sandboxLogs(), a.sandboxWatch(),
	)
	return box
}

func (a *app) sandboxUp() *cobra.Command {
	var file, example string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the sandbox up, and perhaps apply a manifest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var manifest []byte
			var err error
			switch {
			case file != "" && example != "":
				return usage{errors.New("--file or --example, not both")}
			case file != "":
				manifest, err = a.readManifest(file)
			case example != "":
				manifest, err = sandbox.Example(example)
			}
			if err != nil {
				return err
			}
			s, err := a.box(func(text string) { fmt.Fprintln(a.err, text) })
			if err != nil {
				return err
			}
			if err := s.Preflight(); err != nil {
				return err
			}
			if err := s.Up(cmd.Context()); err != nil {
				return fmt.Errorf("%w\n(heddlectl sandbox down removes what was made)", err)
			}
			if manifest != nil {
				return a.apply(cmd.Context(), s, manifest)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest to apply, - for standard input")
	cmd.Flags().StringVar(&example, "example", "", "built-in manifest to apply: "+strings.Join(sandbox.Examples(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("example", cobra.FixedCompletions(sandbox.Examples(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) sandboxDown() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take the sandbox down and remove everything it made",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.box(nil)
			if err != nil {
				return err
			}
			return s.Down(cmd.Context())
		},
	}
}

func (a *app) sandboxApply() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make the objects of a manifest so, and wait until new pods are ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage{errors.New("apply: give -f FILE")}
			}
			manifest, err := a.readManifest(file)
			if err != nil {
				return err
			}
			s, err := a.box(func(text string) { fmt.Fprintln(a.err, text) })
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), s, manifest)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest, - for standard input")
	return cmd
}

func (a *app) sandboxDelete() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "delete {-f FILE | pod NAME}",
		Short: "Remove the objects of a manifest, or a pod",
		Args:  cobra.MaximumNArgs(2), ValidArgsFunction: a.completeBoxPods,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.box(func(text string) { fmt.Fprintln(a.err, text) })
			if err != nil {
				return err
			}
			switch {
			case file == "" && len(args) == 2 && args[0] == "pod":
				namespace, name, err := a.split(args[1])
				if err != nil {
					return err
				}
				return s.DeletePod(cmd.Context(), namespace, name)
			case file == "" || len(args) > 0:
				return usage{errors.New("delete: give -f FILE, or pod NAME")}
			}
			manifest, err := a.readManifest(file)
			if err != nil {
				return err
			}
			changes, err := s.Delete(cmd.Context(), manifest)
			if perr := a.print(changes, func(w io.Writer) { renderChanges(w, changes) }); perr != nil {
				return perr
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest, - for standard input")
	return cmd
}

func (a *app) sandboxPs() *cobra.Command {
	return &cobra.Command{
		Use:   "ps",
		Short: "List the pods and their processes",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.box(nil)
			if err != nil {
				return err
			}
			pods, err := s.Pods()
			if err != nil {
				return err
			}
			return a.print(pods, func(w io.Writer) { renderPs(w, pods, (*sandbox.Pod).Alive) })
		},
	}
}

func (a *app) sandboxExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec {POD | --node NODE} -- COMMAND [ARG...]",
		Short: "Run a command in a pod, or on a node",
		Long:  "Run a command in a pod (its network namespace, cgroup and environment), or on a\nnode with --node. The exit code is the command's.",
		Example: `  heddlectl sandbox exec shop/client -- curl -s http://10.96.0.33/
  heddlectl sandbox exec shop/client -- sh -c 'curl -s http://$WEB_SERVICE_HOST/'`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeBoxPods,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.box(nil)
			if err != nil {
				return err
			}
			var inside *sandbox.Cmd
			if a.node != "" {
				inside, err = s.NodeCommand(cmd.Context(), a.node, args...)
			} else {
				namespace, name, serr := a.split(args[0])
				if serr != nil {
					return serr
				}
				inside, err = s.Command(cmd.Context(), namespace, name, afterDashes(args[1:])...)
			}
			if err != nil {
				return err
			}
			return a.runInside(inside)
		},
	}
	// What follows the pod is the command's, flags and all, with or without
	// the dashes.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func afterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// runInside connects a command to our own terminal and ends as it does.
func (a *app) runInside(cmd *sandbox.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Start(); err != nil {
		return err
	}
	// The terminal sends Ctrl-C to the command as well: it decides. Ignored
	// only now, because a child inherits what is ignored.
	signal.Ignore(os.Interrupt)
	defer signal.Reset(os.Interrupt)
	err := cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if ws, ok := ended.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &problem{128 + int(ws.Signal())}
	}
	return &problem{ended.ExitCode()}
}

func (a *app) sandboxLogs() *cobra.Command {
	return &cobra.Command{
		Use:   "logs {POD[/CONTAINER] | NODE | controller}",
		Short: "Print what a pod, an agent or the controller has written",
		Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completeBoxPods,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.box(nil)
			if err != nil {
				return err
			}
			path, err := s.Log(args[0])
			if err != nil && !strings.Contains(args[0], "/") {
				path, err = s.Log(a.namespace + "/" + args[0])
			}
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("the log of %s: %w", args[0], err)
			}
			defer f.Close()
			_, err = io.Copy(a.out, f)
			return err
		},
	}
}

// sandboxWatch is the process that looks after the pods; the sandbox starts it.
func (a *app) sandboxWatch() *cobra.Command {
	return &cobra.Command{
		Use:    "watch",
		Short:  "Keep the readiness of the pods up to date",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.box(func(text string) { fmt.Fprintln(a.err, text) })
			if err != nil {
				return err
			}
			return s.Watch(cmd.Context())
		},
	}
}

func (a *app) completeBoxPods(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := a.box(nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	pods, _ := s.Pods()
	var names []string
	for _, p := range pods {
		names = append(names, p.Namespace+"/"+p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) readManifest(file string) ([]byte, error) {
	if file == "-" {
		return sandbox.ReadManifest(a.in)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return sandbox.ReadManifest(f)
}

func (a *app) apply(ctx context.Context, s *sandbox.Sandbox, manifest []byte) error {
	changes, err := s.Apply(ctx, manifest)
	if perr := a.print(changes, func(w io.Writer) { renderChanges(w, changes) }); perr != nil {
		return perr
	}
	return err
}

func renderChanges(w io.Writer, changes []sandbox.Change) {
	for _, c := range changes {
		name := c.Name
		if c.Namespace != "" {
			name = c.Namespace + "/" + c.Name
		}
		fmt.Fprintf(w, "%s %s %s", c.Kind, name, c.Action)
		if c.Detail != "" {
			fmt.Fprintf(w, " (%s)", c.Detail)
		}
		fmt.Fprintln(w)
	}
}

func renderPs(w io.Writer, pods []sandbox.Pod, alive func(*sandbox.Pod) bool) {
	t := &table{}
	t.row("POD", "NODE", "STATE", "ADDRESSES", "PIDS", "REASON")
	for i := range pods {
		p := &pods[i]
		state := p.Phase
		switch {
		case p.Phase == "Running" && !alive(p):
			state = "Ended"
		case p.Ready:
			state = "Ready"
		}
		var addrs, pids []string
		for _, addr := range p.Addresses {
			addrs = append(addrs, addr.String())
		}
		for _, proc := range p.Processes {
			pids = append(pids, fmt.Sprint(proc.PID))
		}
		reason, _, _ := strings.Cut(p.Reason, "\n")
		t.row(p.Namespace+"/"+p.Name, p.Node, state, strings.Join(addrs, ","), orDash(strings.Join(pids, ",")), reason)
	}
	t.write(w)
}
