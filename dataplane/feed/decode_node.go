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
	return state.Node{Name: m.Name, Zone: m.Zone}, nil
}
