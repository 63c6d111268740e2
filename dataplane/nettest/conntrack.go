package nettest

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// trackingRules are of a node with kube-proxy: it follows the connections that
// it forwards, and a packet that belongs to none is dropped.
const trackingRules = `
table inet heddle_test {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ct state invalid drop
	}
}`

// TrackConnections makes the process's network namespace a node with kube-proxy,
// until the test ends.
func TrackConnections(t testing.TB) {
	t.Helper()
	nft(t, trackingRules)
	t.Cleanup(func() { nft(t, "delete table inet heddle_test") })
}

// TrackConnections makes the namespace a node with kube-proxy.
func (n *NS) TrackConnections(t testing.TB) {
	t.Helper()
	n.Do(t, func() { nft(t, trackingRules) })
}

// nft applies rules to the calling thread's network namespace.
func nft(t testing.TB, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("nft: %v: %s\n%s", err, out, rules)
	}
}

// Connections returns the IPv4 TCP connections that the calling thread's
// namespace follows and holds to be established.
func Connections(t testing.TB) (established []*netlink.ConntrackFlow) {
	t.Helper()
	const stateEstablished = 3 // TCP_CONNTRACK_ESTABLISHED
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatalf("list the connections that are tracked: %v", err)
	}
	for _, f := range flows {
		if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && tcp.State == stateEstablished {
			established = append(established, f)
		}
	}
	return established
}
