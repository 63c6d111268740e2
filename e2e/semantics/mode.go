package main

import (
	"fmt"
	"slices"
	"strings"
)

// A mode is a way in which Heddle carries connections.
type mode struct {
	name   string
	agent  []string // arguments of the agents
	labels string   // of the enrolled pods, in YAML
	near   bool     // it is about pods of one node only
	uses   string   // the kernel mechanism it is about, as agents name it
}

// plain is what modes are compared with: pods outside the mesh, by pod address.
const plain = "plain"

// theDefault is the mode of an agent without arguments: it must equal plain.
const theDefault = "fast-path"

var modes = []mode{
	{name: "mesh", agent: []string{"--fast-path=off"}},
	{name: theDefault, uses: "fast_path"},
	{name: "socket-bypass", uses: "socket_bypass", labels: "heddle.io/socket-bypass: enabled", near: true},
}

// usual are the modes that are measured when none is named.
var usual = []string{"mesh", theDefault, "socket-bypass"}

func modeNames() []string {
	var names []string
	for _, m := range modes {
		names = append(names, m.name)
	}
	return names
}

// pick returns the modes of those names; plain is always measured.
func pick(names []string) ([]mode, error) {
	var picked []mode
	for _, name := range names {
		i := slices.IndexFunc(modes, func(m mode) bool { return m.name == name })
		switch {
		case i >= 0:
			picked = append(picked, modes[i])
		case name != plain:
			return nil, fmt.Errorf("no mode %q: there are %s", name, strings.Join(modeNames(), ", "))
		}
	}
	if picked == nil {
		return nil, fmt.Errorf("name a mode to compare with plain TCP: %s", strings.Join(modeNames(), ", "))
	}
	return picked, nil
}
