package main

import "github.com/spf13/cobra"

// idle keeps a container alive whose pod's work is done: an uninstallation sees
// by that pod that the node is clean.
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
