package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"heddle.io/heddle/dataplane/node"
)

// agentFlags are the flags of `heddled agent`.
type agentFlags struct {
	config    node.Config
	link      link
	logLevel  string
	logFormat string
}

func agent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent",
		Short: "Program this node's kernel with what the control plane says",
		Long: `Program this node's kernel with what the control plane says.

The agent keeps no connection in its hands: it can be stopped, killed and
replaced while pods talk. What it programmed stays pinned in the kernel.`,
		Example: `  heddled agent --node=$(hostname)
  heddled agent --node=worker-1 --server=controller.example:15010 --tls-cert=node.pem --tls-key=node.key --tls-ca=ca.pem
  heddled agent --node=worker-1 --server=endpoints:heddle-system/heddle-controller:xds --server-ca=ca.pem --token-file=token`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.register(c.Flags())
	return c
}

func (f *agentFlags) register(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&f.config.Node, "node", "", "name of this node, as the control plane knows it (required)")
	flags.StringVar(&f.config.Server, "server", node.DefaultServer, "control plane: unix:///path, host:port, or endpoints:NAMESPACE/SERVICE:PORT, which asks the API server for its addresses")
	f.link.register(flags)
	f.registerPlaces(flags)
	f.registerCNI(flags, "", "")
	flags.StringVar(&f.config.Zone, "zone", "", "zone of this node (default what the control plane says)")
	flags.StringVar(&f.config.TC, "tc", node.DefaultTC, "how to attach to interfaces: auto, tcx or clsact")
	flags.StringVar(&f.config.FastPath, "fast-path", node.DefaultFastPath, "let packets between pods of the node skip its network stack: auto (where the kernel has nf_conntrack and nf_conntrack_netlink, and passes the self-test) or off")
	flags.StringVar(&f.config.SocketBypass, "socket-bypass", node.DefaultSocketBypass, "auto: for pods that are labelled heddle.io/socket-bypass=enabled; off: for none")
	flags.Uint32Var(&f.config.MaxPods, "max-pods", 0, "pods in the mesh on this node (default the built-in size, as for all --max flags)")
	flags.Uint32Var(&f.config.MaxServices, "max-services", 0, "addresses and ports of services")
	flags.Uint32Var(&f.config.MaxSplits, "max-splits", 0, "service ports with more than one backend")
	flags.Uint32Var(&f.config.MaxClusters, "max-clusters", 0, "backends of services")
	flags.Uint32Var(&f.config.MaxEndpoints, "max-endpoints", 0, "endpoints of all backends together")
	flags.Uint32Var(&f.config.MaxMembers, "max-members", 0, "endpoints of services with affinity, or with UDP ports")
	flags.Uint32Var(&f.config.MaxFast, "max-fast", 0, "connections between pods of the node that skip its network stack; one pod opens at most an eighth")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
}

func (f *agentFlags) run(c *cobra.Command) error {
	log, err := logger(c.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	config := f.config
	config.Log = log
	config.Version = version()
	if err := f.link.open(&config); err != nil {
		return err
	}
	n, err := node.New(c.Context(), config)
	if err != nil {
		return err
	}
	log.Info("agent is up", "version", config.Version, "node", config.Node, "server", config.Server, "admin", config.Admin)
	err = n.Run(c.Context())
	log.Info("agent ends; the kernel keeps what was programmed")
	return err
}

// logger writes structured messages to w.
func logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("%w: --log-level=%q must be debug, info, warn or error", errUsage, level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("%w: --log-format=%q must be text or json", errUsage, format)
}
