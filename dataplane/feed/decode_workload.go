package feed

import (
	"errors"
	"fmt"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

// decodeWorkload checks and converts a Workload. Pods of other nodes are
// refused: their addresses must not become allowed sources here.
func decodeWorkload(self, name string, value []byte) (state.Workload, error) {
	var m xds.Workload
	if err := unmarshal(value, &m); err != nil {
		return state.Workload{}, err
	}
	if err := errors.Join(
		checkName("namespace", m.Namespace, maxLabel),
		checkName("name", m.Name, maxName),
		checkOptionalName("uid", m.Uid, maxName),
		checkOptionalName("service_account", m.ServiceAccount, maxName),
	); err != nil {
		return state.Workload{}, err
	}
	if err := checkResourceName(name, m.Namespace+"/"+m.Name); err != nil {
		return state.Workload{}, err
	}
	if m.Node != self {
		return state.Workload{}, fmt.Errorf("pod of node %q, this node is %q", m.Node, self)
	}
	addresses, err := decodeAddresses("addresses", m.Addresses, maxPodAddresses)
	if err != nil {
		return state.Workload{}, err
	}
	return state.Workload{
		Namespace:      m.Namespace,
		Name:           m.Name,
		UID:            m.Uid,
		ServiceAccount: m.ServiceAccount,
		Addresses:      addresses,
		Mesh:           m.Mesh,
		HostNetwork:    m.HostNetwork,
		SocketBypass:   m.SocketBypass,
	}, nil
}
