package cluster

import (
	"fmt"
	"net"
)

// Addresses exist only inside a cluster's own network namespaces, so they are
// the same in every cluster, however many run side by side.
const (
	// ControlPlane is where etcd, the API server and CoreDNS live; the API
	// server listens on port 6443.
	ControlPlane = "10.200.0.1"
	// DNS is the ClusterIP that every pod has as its resolver. Nothing listens
	// there before (*Cluster).CoreDNS.
	DNS = "10.96.0.10"

	apiServerClusterIP = "10.96.0.1"

	controlPlane6 = "fd00:200::1"
	services      = "10.96.0.0/16"
	services6     = "fd00:96::/112"
	pods          = "10.201.0.0/16"
	pods6         = "fd00:201::/32"
)

func nodeIP(i int) string   { return fmt.Sprintf("10.200.0.%d", 10+i) }
func nodeIP6(i int) string  { return fmt.Sprintf("fd00:200::%d", 10+i) }
func podCIDR(i int) string  { return fmt.Sprintf("10.201.%d.0/24", i) }
func podCIDR6(i int) string { return fmt.Sprintf("fd00:201:%d::/64", i) }

// mac is the hardware address of node i, of the control plane for 0. It stays
// when a node starts again, so that nobody has to forget the old one first.
func mac(i int) net.HardwareAddr { return net.HardwareAddr{0x02, 0x68, 0x64, 0, 0, byte(i)} }

// join is for flags that take both families, separated by a comma.
func join(dual bool, v4, v6 string) string {
	if dual {
		return v4 + "," + v6
	}
	return v4
}
