package main

import (
	"fmt"
	"slices"
	"strings"
)

// A setting is what the node does with packets besides forwarding them.
type setting string

const (
	conntrack setting = "conntrack + kube-proxy-like rules"
	bare      setting = "no netfilter"
)

var settings = []setting{conntrack, bare}

// node is the sandbox's node with a setting.
func (s setting) node() string {
	if s == conntrack {
		return "node1"
	}
	return "node2"
}

// What a client dials.
type address int

const (
	byService address = iota
	byPod
	byProxy // the proxy's own address on the node
)

// A Variant is a way between two pods of one node.
type Variant struct {
	Name    string
	Setting setting

	// Mesh puts the pods into the mesh. Without it no agent runs on the node,
	// and nothing of Heddle is in its kernel.
	Mesh bool
	// AgentArgs of the node's agent. An agent that does not know them makes the
	// variant not available.
	AgentArgs []string
	// Mechanism that is to serve the connections, by the agent's name for it.
	Mechanism string
	// PodLabels of both pods.
	PodLabels map[string]string
	Dial      address
	// Proxy between them: a process on the node.
	Proxy string
}

const (
	direct      = "direct"
	directPodIP = "direct-podip"
	meshDefault = "mesh"
	meshBypass  = "mesh with socket bypass"
)

// variants is the table: to measure another way, add a row.
var variants = []*Variant{
	{Name: direct, Setting: conntrack, Dial: byService},
	{Name: directPodIP, Setting: conntrack, Dial: byPod},
	{Name: meshDefault, Setting: conntrack, Mesh: true, Dial: byService, Mechanism: "fast_path"},
	{Name: "mesh without fast path", Setting: conntrack, Mesh: true, Dial: byService, AgentArgs: []string{"--fast-path=off"}},
	{Name: meshBypass, Setting: conntrack, Mesh: true, Dial: byService, Mechanism: "socket_bypass", AgentArgs: []string{"--socket-bypass=auto"}, // the default, in a world of its own
		PodLabels: map[string]string{"heddle.io/socket-bypass": "enabled"}},
	{Name: "haproxy", Setting: conntrack, Dial: byProxy, Proxy: "haproxy"},
	{Name: "nginx", Setting: conntrack, Dial: byProxy, Proxy: "nginx"},

	{Name: directPodIP, Setting: bare, Dial: byPod},
	{Name: meshDefault, Setting: bare, Mesh: true, Dial: byService, Mechanism: "fast_path"},
}

// base is the variant without a mesh that the others of its setting are compared
// with. Without netfilter nothing serves a service address, so it dials the pod.
func (s setting) base() string {
	if s == conntrack {
		return direct
	}
	return directPodIP
}

// key names the variant in reports.
func (v *Variant) key() string { return string(v.Setting) + ": " + v.Name }

// slug names its pods and its service.
func (v *Variant) slug() string {
	name := strings.ReplaceAll(v.Name, " ", "-")
	return name + "-" + strings.Fields(string(v.Setting))[0]
}

// world is which sandbox the variant is in: those with the same agents share one.
func (v *Variant) world() string {
	if !v.Mesh {
		return "plain"
	}
	return strings.Join(append([]string{"mesh"}, v.AgentArgs...), " ")
}

// choose returns the variants that are wanted, and what they are compared with.
func choose(all []*Variant, only []string) ([]*Variant, error) {
	for _, name := range only {
		if !slices.ContainsFunc(all, func(v *Variant) bool { return v.Name == name }) {
			return nil, fmt.Errorf("no variant is called %q: see the table in e2e/bench/variant.go", name)
		}
	}
	var out []*Variant
	for _, v := range all {
		if len(only) == 0 || v.Name == v.Setting.base() || slices.Contains(only, v.Name) {
			out = append(out, v)
		}
	}
	return out, nil
}
