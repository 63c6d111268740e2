package plan

import (
	"testing"

	"heddle.io/heddle/dataplane/state"
)

// Ids are in pinned maps: another release must compute the same ones.
func TestIDsAreStable(t *testing.T) {
	svc := &state.Service{Namespace: "shop", Name: "cart"}
	port := &state.Port{Port: 80, Protocol: state.TCP}
	if got, want := serviceName(svc, port, false), "shop/cart:80/tcp#4"; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
	variant := &state.Service{Namespace: "shop", Name: "cart", Scope: "web"}
	if got, want := serviceName(variant, &state.Port{Port: 53, Protocol: state.UDP}, true), "shop/cart:53/udp@web#6"; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
	// printf 'service\0shop/cart:80/tcp#4' | sha256sum, first 8 bytes reversed
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"service", ServiceID(svc, port, false), 0x88d8109da3b11e10},
		{"service IPv6", ServiceID(svc, port, true), 0x57e100e030e926d8},
		{"cluster", ClusterID("shop/cart/80/tcp", false), 0xac52aed781683379},
		{"scope", ScopeID("shop"), 0xa45fc64cab18ccf4},
	} {
		if c.got != c.want {
			t.Errorf("%s: id %#016x, want %#016x", c.what, c.got, c.want)
		}
	}
}
