package sandbox

import (
	"net/netip"
	"testing"
)

func TestAddressPlan(t *testing.T) {
	n := nodes[1]
	for _, c := range []struct{ name, got, want string }{
		{"node v4", n.addresses()[0].String(), "10.250.0.2"},
		{"node v6", n.addresses()[1].String(), "fd00:10:250::2"},
		{"pod v4", n.podAddresses(254)[0].String(), "10.244.2.254"},
		{"pod v6", n.podAddresses(16)[1].String(), "fd00:10:244:2::10"},
		{"pods v6", n.podNets()[1].String(), "fd00:10:244:2::/64"},
		{"first service", serviceAddress(firstServiceNumber, false).String(), "10.96.0.32"},
		{"last service", serviceAddress(lastServiceNumber, false).String(), "10.96.255.254"},
		{"last service v6", serviceAddress(lastServiceNumber, true).String(), "fd00:10:96::fffe"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	for _, p := range []netip.Prefix{nodeNet4, nodeNet6, serviceNet4, serviceNet6, n.podNets()[0], n.podNets()[1]} {
		if p != p.Masked() {
			t.Errorf("%s has bits after its length", p)
		}
	}
}

func TestNumbersAreNotReusedAtOnce(t *testing.T) {
	used := map[int]bool{}
	last := 0
	var got []int
	for range 4 {
		n, ok := nextFree(last, 2, 4, func(n int) bool { return used[n] })
		if !ok {
			got = append(got, -1)
			break
		}
		used[n], last = true, n
		got = append(got, n)
	}
	// 2, 3, 4 are taken, then none is left.
	if want := []int{2, 3, 4, -1}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Fatalf("got %v, want %v", got, want)
	}
	delete(used, 4)
	delete(used, 2)
	if n, _ := nextFree(4, 2, 4, func(n int) bool { return used[n] }); n != 2 {
		t.Errorf("after 4 comes %d, want 2: 4 was just given back", n)
	}
}
