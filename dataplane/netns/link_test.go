package netns_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/nettest"
)

// A pod that may make interfaces gives a pair of its own the numbers of another
// pod's: it must not be taken for the owner of that one's interface.
func TestHostSideOfAForgedPair(t *testing.T) {
	nettest.RequireRoot(t)
	host, victim, hostile := nettest.Netns(t), nettest.Netns(t), nettest.Netns(t)
	for _, name := range []string{"first", "second", "third"} {
		nettest.Veth(t, host, name, nettest.Netns(t), "eth0")
	}
	nettest.Veth(t, host, "victim", victim, "eth0")
	inner, outer := int(victim.Ifindex(t, "eth0")), int(host.Ifindex(t, "victim"))
	hostile.Do(t, func() {
		// The kernel counts: a peer gets the number after that of the one before.
		const elsewhere = 1000
		last := 0
		for last < outer-1 {
			pair := forge(t, elsewhere)
			last = pair.peer
			if err := netlink.LinkDel(pair.link); err != nil {
				t.Fatal(err)
			}
		}
		if pair := forge(t, inner); pair.peer != outer {
			t.Fatalf("the peer has the number %d, not %d", pair.peer, outer)
		}
	})
	host.Do(t, func() {
		if name, index, err := netns.HostSide(hostile.Path(), "eth0"); name != "" || err != nil {
			t.Errorf("the forged pair has host side %q (%d), error %v, want none", name, index, err)
		}
		if name, index, err := netns.HostSide(victim.Path(), "eth0"); name != "victim" || index != outer || err != nil {
			t.Errorf("the pod has host side %q (%d), error %v", name, index, err)
		}
	})
}

type pair struct {
	link netlink.Link
	peer int // its number
}

// forge makes a pair within this namespace whose first end has a number.
func forge(t *testing.T, index int) pair {
	t.Helper()
	l := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "peer"}
	l.Name, l.Index = "eth0", index
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.LinkByName("peer")
	if err != nil {
		t.Fatal(err)
	}
	return pair{l, peer.Attrs().Index}
}
