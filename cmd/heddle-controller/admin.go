package main

import (
	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin/join"
	"heddle.io/heddle/controlplane/plane"
)

func admin() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "admin",
		Short: "Join standard input and output to the controller's admin socket",
		Long: `Join standard input and output to the controller's admin socket.

heddlectl runs this in the controller's pod: who may do that may ask the controller.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return join.Socket(c.Context(), socket, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&socket, "socket", plane.DefaultAdmin, "unix socket of the controller")
	return c
}
