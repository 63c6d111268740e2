package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"heddle.io/heddle/dataplane/node"
)

// ready is the agent's probe in a container without a shell. One that stands by
// is asked about the agent that it will follow: the node is served.
func ready() *cobra.Command {
	var socket string
	var alive bool
	c := &cobra.Command{
		Use:   "ready",
		Short: "Say by the exit code whether this node is served",
		Long: `Say by the exit code whether this node is served: an agent answers, has a
configuration, and has brought the kernel to it.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := node.Ready(c.Context(), socket, alive); err != nil {
				return fmt.Errorf("not ready: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&socket, "socket", node.DefaultAdmin, "admin socket of the agent")
	c.Flags().BoolVar(&alive, "alive", false, "it is enough that an agent answers")
	return c
}

// idle keeps a container alive whose work is done.
func idle() *cobra.Command {
	return &cobra.Command{
		Use:    "idle",
		Short:  "Wait for the signal to end",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			<-c.Context().Done()
			return nil
		},
	}
}
