package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"heddle.io/heddle/install/check"
	"heddle.io/heddle/install/kube"
	"heddle.io/heddle/install/manifests"
	"heddle.io/heddle/install/rollout"
)

// installFlags are the choices of install and upgrade. What is not said stays as
// it was chosen before.
type installFlags struct {
	options manifests.Options
	gateway bool
	wait    bool
	dryRun  string
	timeout time.Duration
}

func (f *installFlags) register(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&f.options.Version, "version", manifests.Tag(version().Version), "version of the images, their tag")
	flags.StringVar(&f.options.Registry, "registry", "", "where the images are, without their names (default "+manifests.Registry+")")
	flags.IntVar(&f.options.Replicas, "replicas", 0, "controllers (default 2)")
	flags.StringVar(&f.options.APIServer, "api-server", "", "HOST:PORT at which every node reaches the API server (default its Service)")
	flags.BoolVar(&f.options.WithoutKubeProxy, "without-kube-proxy", false, "nodes reach no Service address: agents ask the API server where the controllers are")
	flags.StringVar(&f.options.CNIConfDir, "cni-conf-dir", "", "where the nodes' runtime reads its network configuration (default /etc/cni/net.d)")
	flags.StringVar(&f.options.CNIBinDir, "cni-bin-dir", "", "where the nodes' runtime finds network plugins (default /opt/cni/bin)")
	flags.StringVar(&f.options.LogLevel, "log-level", "", "of controllers and agents: debug, info, warn or error (default info)")
	flags.BoolVar(&f.gateway, "gateway-api-crds", false, "install the routes of Gateway API "+manifests.GatewayVersion+" too, unless the cluster has newer ones")
	flags.BoolVar(&f.wait, "wait", true, "wait until everything is ready")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long to wait")
	flags.StringVar(&f.dryRun, "dry-run", "", "client: print the objects; server: let the API server check them; change nothing")
	flags.Lookup("dry-run").NoOptDefVal = "client"
}

func (a *app) installCommand() *cobra.Command {
	var f installFlags
	c := &cobra.Command{
		Use:   "install",
		Short: "Install Heddle in a cluster",
		Long: `Install Heddle in a cluster, or bring an installation to what is asked for.
Doing it twice changes nothing. Options that are not given stay as they were
chosen before.

No pod is touched: label a namespace heddle.io/mesh=enabled to have its pods in
the mesh. heddlectl check says before and after what is wrong.`,
		Example: `  heddlectl check && heddlectl install --gateway-api-crds
  heddlectl install --dry-run | kubectl diff --server-side -f -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.dryRun == "client" {
				return a.printObjects(f)
			}
			return a.install(c.Context(), c.Flags(), f)
		},
	}
	f.register(c.Flags())
	return c
}

func (a *app) upgradeCommand() *cobra.Command {
	var f installFlags
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring an installation to this version, the controllers first",
		Long: `Bring an installation to this version: the definitions, the controllers, then
the agents, a node at a time. Connections go on. A step of more than one minor
version is refused, since controllers and agents work with those of the
neighbouring ones. Options that are not given stay as they were chosen before.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.upgrade(c.Context(), c.Flags(), f)
		},
	}
	f.register(c.Flags())
	return c
}

// printObjects asks nobody: it says what an installation with these options is.
func (a *app) printObjects(f installFlags) error {
	objects, err := manifests.Objects(f.options)
	if err != nil {
		return usage{err}
	}
	crds, err := manifests.CRDs()
	if err != nil {
		return err
	}
	if f.gateway {
		gateway, err := manifests.GatewayCRDs()
		if err != nil {
			return err
		}
		crds = append(gateway, crds...)
	}
	// The namespace first: it is what everything else needs.
	all := append(objects[:1:1], append(crds, objects[1:]...)...)
	text, err := manifests.Encode(all)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

func (a *app) install(ctx context.Context, flags *pflag.FlagSet, f installFlags) error {
	if f.dryRun != "" && f.dryRun != "server" {
		return usage{fmt.Errorf("--dry-run=%s: use client or server", f.dryRun)}
	}
	if err := f.options.Validate(); err != nil {
		return usage{err}
	}
	c, _, err := a.rollout()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	found, err := c.Look(ctx)
	if err != nil {
		return err
	}
	if err := a.step(found, f.options.Version); err != nil {
		return err
	}
	changes, err := c.Install(ctx, rollout.Request{
		Options: inherit(flags, f.options, found.Options), GatewayCRDs: f.gateway, Wait: f.wait, DryRun: f.dryRun == "server",
	})
	if err != nil {
		return err
	}
	return a.print(changes, func(w io.Writer) { renderInstalled(w, changes, f) })
}

// upgrade is an installation over one that is well enough to be judged.
func (a *app) upgrade(ctx context.Context, flags *pflag.FlagSet, f installFlags) error {
	c, pods, err := a.rollout()
	if err != nil {
		return err
	}
	facts := check.Gather(ctx, pods, c, f.options.Version)
	switch {
	case facts.ServerErr != nil:
		return facts.ServerErr
	case facts.Installed.Controller == "":
		return errors.New("nothing is installed: heddlectl install")
	case facts.Installed.Cleaning:
		return errors.New("an uninstallation was begun: finish it (heddlectl uninstall), or take it back (heddlectl install)")
	}
	if before := check.Before(facts); check.Failed(before) {
		renderLines(a.err, before)
		return errors.New("the cluster does not fit this version: correct what failed first")
	}
	return a.install(ctx, flags, f)
}

// step refuses to go too far from what runs.
func (a *app) step(found rollout.Installed, to string) error {
	for _, from := range []string{found.Controller, found.Agent} {
		if from == "" || from == to {
			continue
		}
		known, err := rollout.Neighbours(from, to)
		if err != nil {
			return err
		}
		if !known {
			fmt.Fprintf(a.err, "nothing says whether %s and %s work together: one of them is no release\n", from, to)
		}
	}
	return nil
}

// inherit takes what the command line does not say from the installation before.
func inherit(flags *pflag.FlagSet, said, before manifests.Options) manifests.Options {
	take := func(flag string, field func(*manifests.Options)) {
		if !flags.Changed(flag) {
			field(&said)
		}
	}
	take("registry", func(o *manifests.Options) { o.Registry = before.Registry })
	take("replicas", func(o *manifests.Options) { o.Replicas = before.Replicas })
	take("api-server", func(o *manifests.Options) { o.APIServer = before.APIServer })
	take("without-kube-proxy", func(o *manifests.Options) { o.WithoutKubeProxy = before.WithoutKubeProxy })
	take("cni-conf-dir", func(o *manifests.Options) { o.CNIConfDir = before.CNIConfDir })
	take("cni-bin-dir", func(o *manifests.Options) { o.CNIBinDir = before.CNIBinDir })
	take("log-level", func(o *manifests.Options) { o.LogLevel = before.LogLevel })
	return said
}

// rollout is the cluster of the command line, to write to and to read from.
func (a *app) rollout() (*rollout.Cluster, *kube.Cluster, error) {
	if a.system != manifests.Namespace {
		return nil, nil, usage{fmt.Errorf("--system-namespace %s: Heddle is installed in %s, whose name its certificates and accounts carry", a.system, manifests.Namespace)}
	}
	config, err := kube.Config(a.kube)
	if err != nil {
		return nil, nil, usage{err}
	}
	pods, err := kube.Open(config, a.system)
	if err != nil {
		return nil, nil, err
	}
	c, err := rollout.New(config, func(line string) { fmt.Fprintln(a.err, line) })
	return c, pods, err
}

func renderInstalled(w io.Writer, changes []rollout.Change, f installFlags) {
	count := map[string]int{}
	for _, c := range changes {
		count[c.Change]++
	}
	what := "installed"
	if f.dryRun != "" {
		what = "checked"
	}
	fmt.Fprintf(w, "Heddle %s is %s: %d created, %d configured, %d unchanged\n", f.options.Version, what, count["created"], count["configured"], count["unchanged"])
	if f.dryRun == "" && count["created"] > 0 {
		fmt.Fprintln(w, "put a namespace into the mesh: kubectl label namespace NAME heddle.io/mesh=enabled")
	}
}
