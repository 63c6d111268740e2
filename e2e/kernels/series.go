package main

import (
	"fmt"
	"slices"
	"strings"
)

// series are the kernels that users of Debian 12 and 13 run, and the mechanisms
// that each is known to lack. Everything else has to be on: a mechanism that is
// off without need takes its tests with it.
var series = []struct {
	version string
	lacks   []string
}{
	{version: "6.1", lacks: []string{"tcx", "socket_bypass"}},
	{version: "6.12"},
}

// needConntrack are the mechanisms that are off, on every kernel, until
// connection tracking is loaded.
var needConntrack = []string{"fast_path"}

// lacks is what has to be off on a kernel, by the circumstances of the agent.
// The keys of a kernel of no series are missing: nothing is known about it.
func lacks(release string) map[string][]string {
	for _, s := range series {
		if strings.HasPrefix(release, s.version+".") {
			return map[string][]string{
				withoutConntrack: slices.Concat(s.lacks, needConntrack),
				withConntrack:    s.lacks,
			}
		}
	}
	return nil
}

// compareOff says in which mechanisms a kernel differs from what is known of it.
func compareOff(circumstances string, off, want []string) error {
	var wrong []string
	for _, name := range off {
		if !slices.Contains(want, name) {
			wrong = append(wrong, name+" is off and has to be on")
		}
	}
	for _, name := range want {
		if !slices.Contains(off, name) {
			wrong = append(wrong, name+" is not off")
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("heddled %s: %s: if that is right, correct e2e/kernels/series.go", circumstances, strings.Join(wrong, ", "))
}
