package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin/join"
	"heddle.io/heddle/controlplane/plane"
)

func health() *cobra.Command {
	var socket string
	var live bool
	c := &cobra.Command{
		Use:   "health",
		Short: "Tell whether the controller can serve nodes",
		Long: `Tell whether the controller can serve nodes: it read the objects, and has its
certificate. It is for probes of the controller's pod. Exit code 0 when it can, 1
when it cannot or nobody answers.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			path := "/v1/ready"
			if live {
				path = "/v1/status"
			}
			if err := join.Ask(c.Context(), socket, path, nil); err != nil {
				return fmt.Errorf("not healthy: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&socket, "socket", plane.DefaultAdmin, "unix socket of the controller")
	c.Flags().BoolVar(&live, "live", false, "only whether it answers")
	return c
}
