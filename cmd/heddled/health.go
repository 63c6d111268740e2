package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/admin/join"
	"heddle.io/heddle/dataplane/node"
)

func health() *cobra.Command {
	var socket string
	var live bool
	c := &cobra.Command{
		Use:   "health",
		Short: "Tell whether the agent works",
		Long: `Tell whether the agent works: it knows what its node's kernel has to do, from the
control plane or from its disk. It is for probes of the agent's pod. Exit code 0 when
it does, 1 when it does not or nobody answers.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var status api.AgentStatus
			err := join.Ask(c.Context(), socket, "/v1/status", &status)
			if err == nil && !live && !status.Feed.Synced {
				err = errors.New("the agent knows no state yet: the control plane did not answer, and there is none on the disk")
			}
			if err != nil {
				return fmt.Errorf("not healthy: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&socket, "socket", node.DefaultAdmin, "unix socket of the agent")
	c.Flags().BoolVar(&live, "live", false, "only whether it answers")
	return c
}
