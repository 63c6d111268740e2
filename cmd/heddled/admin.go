package main

import (
	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin/join"
	"heddle.io/heddle/dataplane/node"
)

func admin() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "admin",
		Short: "Join standard input and output to the agent's admin socket",
		Long: `Join standard input and output to the agent's admin socket.

heddlectl runs this in the agent's pod: who may do that may ask the agent.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return join.Socket(c.Context(), socket, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&socket, "socket", node.DefaultAdmin, "unix socket of the agent")
	return c
}
