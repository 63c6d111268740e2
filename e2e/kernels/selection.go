package main

import (
	"slices"
	"strings"
)

// selection is what of the suite runs in one go.
type selection struct {
	programs []program
	only     string // the tests that were asked for by name; all of programs when empty
}

// everything selects the whole suite, or of it what matches only.
func everything(only string) selection { return selection{suite, only} }

// essential selects what every change has to pass: the tests of Must, and no
// program that has none.
func essential() selection {
	var s selection
	for _, p := range suite {
		if p.Must == nil {
			continue
		}
		p.Run = nil
		for _, name := range p.Must {
			if top, _, _ := strings.Cut(name, "/"); !slices.Contains(p.Run, top) {
				p.Run = append(p.Run, top)
			}
		}
		p.Heavy = nil
		without := map[string][]string{}
		for mechanism, tests := range p.Without {
			for _, name := range tests {
				if top, _, _ := strings.Cut(name, "/"); top == "*" || slices.Contains(p.Run, top) {
					without[mechanism] = append(without[mechanism], name)
				}
			}
		}
		p.Without = without
		s.programs = append(s.programs, p)
	}
	return s
}
