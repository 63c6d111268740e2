package main

import (
	"fmt"
	"slices"
	"strings"
)

// A mode is a way in which Heddle carries connections.
type mode struct {
	name   string
	about  string
	agent  []string // arguments of the agents
	labels string   // of the enrolled pods, in YAML
	near   bool     // it is about pods of one node only
}

// plain is what modes are compared with: pods outside the mesh, by pod address.
const plain = "plain"

// theDefault is the mode of an agent without arguments: it must equal plain.
const theDefault = "fast-path"

var modes = []mode{
	{name: "mesh", about: "enrolled pods, by service address; no acceleration"},
	{name: "fast-path", about: "the default: packets of enrolled pods are redirected past the node's stack"},
	{name: "socket-bypass", about: "both pods opted in by label: bytes move from socket to socket",
		labels: "heddle.io/socket-bypass: enabled", near: true},
}

// usual are the modes that are measured when none is named.
var usual = []string{"mesh"}

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
