package main

import (
	"io"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/check"
	"heddle.io/heddle/install/manifests"
)

type checkReport struct {
	Before []check.Line `json:"before"`
	After  []check.Line `json:"after,omitempty"` // when something is installed
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say whether the cluster fits Heddle, and whether Heddle is well in it",
		Long: `Say whether the cluster fits Heddle and, when it is installed, whether it is well.
Every line that is not ok says why and what to do. The exit code is 1 when one
failed; warnings leave it 0.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cluster, pods, err := a.rollout()
			if err != nil {
				return err
			}
			facts := check.Gather(c.Context(), pods, cluster, manifests.Tag(version().Version))
			report := checkReport{Before: check.Before(facts), After: check.After(facts)}
			err = a.print(report, func(w io.Writer) { renderCheck(w, report) })
			switch {
			case err != nil:
				return err
			case facts.ServerErr != nil:
				return &problem{exitUnreachable}
			case check.Failed(report.Before) || check.Failed(report.After):
				return &problem{exitProblem}
			}
			return nil
		},
	}
}

func renderCheck(w io.Writer, r checkReport) {
	renderLines(w, r.Before)
	if r.After == nil {
		return
	}
	_, _ = io.WriteString(w, "\n")
	renderLines(w, r.After)
}

func renderLines(w io.Writer, lines []check.Line) {
	var t table
	for _, l := range lines {
		t.row(l.State, l.Check, l.Detail)
		if l.State != check.OK && l.Do != "" {
			t.row("", "", "→ "+l.Do)
		}
	}
	t.write(w)
}
