package feed

import (
	"fmt"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// decodeNode checks and converts a Node. Only the receiving node's own is
// accepted: a zone that belongs to another node would turn locality around.
func decodeNode(self, name string, value []byte) (state.Node, error) {
	var m xds.Node
	if err := unmarshal(value, &m); err != nil {
		return state.Node{}, err
	}
	if err := checkName("name", m.Name, maxName); err != nil {
		return state.Node{}, err
	}
	if err := checkResourceName(name, m.Name); err != nil {
		return state.Node{}, err
	}
	if m.Name != self {
		return state.Node{}, fmt.Errorf("this node is %q", self)
	}
	if err := checkOptionalName("zone", m.Zone, maxLabel); err != nil {
		return state.Node{}, err
	}
	start, err := decodePodStart(m.PodStart)
	if err != nil {
		return state.Node{}, err
	}
	return state.Node{Name: m.Name, Zone: m.Zone, PodStart: start}, nil
}

// maxExempt bounds the namespaces whose pods start without the agent.
const maxExempt = 1000

func decodePodStart(m *xds.PodStart) (state.PodStart, error) {
	if len(m.GetExemptNamespaces()) > maxExempt {
		return state.PodStart{}, fmt.Errorf("pod_start.exempt_namespaces: %d names, the limit is %d", len(m.ExemptNamespaces), maxExempt)
	}
	for _, name := range m.GetExemptNamespaces() {
		if err := checkName("pod_start.exempt_namespaces", name, maxLabel); err != nil {
			return state.PodStart{}, err
		}
	}
	out := state.PodStart{Exempt: m.GetExemptNamespaces()}
	switch m.GetWhenAgentDown() {
	case xds.PodStart_WAIT:
	case xds.PodStart_DROP:
		out.Drop = true
	default:
		return state.PodStart{}, fmt.Errorf("pod_start.when_agent_down %d is unknown to this agent", m.GetWhenAgentDown())
	}
	return out, nil
}
