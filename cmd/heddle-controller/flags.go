package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"heddle.io/heddle/controlplane/plane"
	"heddle.io/heddle/identity/mtls"
)

// flags are those of the command.
type flags struct {
	config    plane.Config
	tls       mtls.Files
	cluster   clusterFlags
	logLevel  string
	logFormat string
}

func root() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "heddle-controller",
		Short: "Tell the nodes of a cluster what their kernels need to know",
		Long: `Tell the nodes of a cluster what their kernels need to know.

The controller reads Namespaces, Nodes, Pods, Services, EndpointSlices and
TCPRoutes, and serves what follows from them as delta xDS. It can be stopped,
killed and replaced at any time: nodes keep what they have, traffic does not
notice.`,
		Example: `  heddle-controller --source=dir:/etc/heddle/objects
  heddle-controller --source=kubernetes --listen=:15010
  heddle-controller --source=dir:./objects --listen=0.0.0.0:15010 --tls-cert=controller.pem --tls-key=controller.key --tls-ca=ca.pem`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; %s --help lists the flags", errUsage, err, c.CommandPath())
	})
	f.register(c.Flags())
	c.AddCommand(admin(), health())
	return c
}

func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q; %s --help lists the flags", errUsage, args[0], c.CommandPath())
	}
	return nil
}

func (f *flags) register(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&f.config.Source, "source", plane.DefaultSource, "where the objects are: kubernetes, or dir:PATH, a directory of YAML and JSON files")
	f.cluster.register(flags)
	flags.StringVar(&f.config.Listen, "listen", plane.DefaultListen, "where nodes connect: unix:///path or host:port")
	flags.StringVar(&f.tls.Cert, "tls-cert", "", "certificate for nodes, PEM file; needed unless --listen is local")
	flags.StringVar(&f.tls.Key, "tls-key", "", "key of the certificate, PEM file")
	flags.StringVar(&f.tls.CA, "tls-ca", "", "certificates that those of nodes are checked against, PEM file")
	flags.StringVar(&f.config.Admin, "admin", plane.DefaultAdmin, "unix socket for heddlectl and metrics")
	flags.StringVar(&f.config.StateDir, "state-dir", plane.DefaultStateDir, "directory for the last good objects")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
}

func (f *flags) run(c *cobra.Command) error {
	log, err := logger(c.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	config := f.config
	config.Log, config.Version = log, version()
	klog.SetSlogLogger(log) // what Kubernetes' own packages have to say
	if f.tls != (mtls.Files{}) {
		if f.tls.Cert == "" || f.tls.Key == "" || f.tls.CA == "" {
			return fmt.Errorf("%w: --tls-cert, --tls-key and --tls-ca go together", errUsage)
		}
		credentials, err := mtls.Load(f.tls)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		config.TLS, config.TLSErr = credentials.Server(), credentials.Err
	}
	if config.Source == plane.Kubernetes {
		if config.Cluster, err = f.cluster.load(); err != nil {
			return err
		}
	}
	p, err := plane.New(c.Context(), config)
	if err != nil {
		return err
	}
	log.Info("controller is up", "version", config.Version, "source", config.Source, "listen", config.Listen, "admin", config.Admin)
	err = p.Run(c.Context())
	log.Info("controller ends; nodes keep what they have")
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
