package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"heddle.io/heddle/dataplane/node"
)

// errLeft is what clean --check says of a node that is not clean.
var errLeft = errors.New("there is something of Heddle on this node; heddled clean removes it")

func clean() *cobra.Command {
	f := agentFlags{logLevel: "info", logFormat: "text"}
	var check bool
	c := &cobra.Command{
		Use:   "clean",
		Short: "Take everything of Heddle from this node",
		Long: `Take everything of Heddle from this node: the CNI plugin and its entry, programs,
maps, pins and filters, the state directory, the sockets.

Pods keep running and their connections stay where they are: those that skip the
network stack are handed back to it first. The agent has to be stopped before.
It can be called again.`,
		Example: `  heddled clean
  heddled clean --check    # exit code 1 when something is there`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return f.clean(c, check) },
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.BoolVar(&check, "check", false, "remove nothing, print what is there")
	f.registerPlaces(flags)
	f.registerCNI(flags, "/etc/cni/net.d", "/opt/cni/bin")
	return c
}

func (f *agentFlags) clean(c *cobra.Command, check bool) error {
	config := f.config
	// What an agent cannot do without, and cleaning does not look at.
	config.Node, config.Server = "any", node.DefaultServer
	config.TC, config.FastPath, config.SocketBypass = node.DefaultTC, node.DefaultFastPath, node.DefaultSocketBypass
	lines, err := node.Clean(config, check)
	for _, line := range lines {
		if !check {
			line = "removed " + line
		}
		fmt.Fprintln(c.OutOrStdout(), line)
	}
	switch {
	case err != nil:
		return err
	case check && len(lines) > 0:
		return errLeft
	case len(lines) == 0:
		fmt.Fprintln(c.OutOrStdout(), "there is nothing of Heddle on this node")
	}
	return nil
}

// registerPlaces adds the flags that say where an agent keeps things.
func (f *agentFlags) registerPlaces(flags *pflag.FlagSet) {
	flags.StringVar(&f.config.Cgroup, "cgroup", "", "cgroup2 directory whose processes are seen (default the root of the hierarchy)")
	flags.StringVar(&f.config.Pins, "pins", node.DefaultPins, "directory on a bpffs for what stays in the kernel")
	flags.StringVar(&f.config.Admin, "admin", node.DefaultAdmin, "unix socket for heddlectl; that of the CNI plugin, cni.sock, is beside it")
	flags.StringVar(&f.config.StateDir, "state-dir", node.DefaultStateDir, "directory for the last good state")
}

// registerCNI adds the flags about the container runtime.
func (f *agentFlags) registerCNI(flags *pflag.FlagSet, confDir, binDir string) {
	flags.StringVar(&f.config.CNIConfDir, "cni-conf-dir", confDir, "directory of the container runtime's CNI configuration; empty: it is left alone")
	flags.StringVar(&f.config.CNIBinDir, "cni-bin-dir", binDir, "directory of the container runtime's CNI plugins")
	flags.StringVar(&f.config.CNIPlugin, "cni-plugin", besideSelf("heddle-cni"), "CNI plugin that is installed there (default the one beside heddled)")
}

// besideSelf is a file in the directory of this program.
func besideSelf(name string) string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.Dir(self), name)
}
