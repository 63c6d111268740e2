package main

import (
	"net/netip"
	"testing"

	"heddle.io/heddle/api/admin"
)

func TestCarry(t *testing.T) {
	const asked, notAsked = "on, with the pods of this node that ask for it too", "off: not asked for"
	both := []admin.Mechanism{{Name: "fast_path", On: true}, {Name: "socket_bypass", On: true}}
	pods := []admin.Pod{
		{Namespace: "shop", Name: "client", Addresses: []string{"10.0.0.1"}, Enrolled: true, Bypass: asked},
		{Namespace: "shop", Name: "web", Addresses: []string{"10.0.0.2"}, Enrolled: true, Bypass: asked},
		{Namespace: "shop", Name: "quiet", Addresses: []string{"10.0.0.3"}, Enrolled: true, Bypass: notAsked},
		{Namespace: "shop", Name: "barred", Addresses: []string{"10.0.0.4"}, Enrolled: true, Bypass: notAsked, FastPathOff: "a foreign program"},
		{Namespace: "shop", Name: "outside", Addresses: []string{"10.0.0.5"}},
	}
	for name, tt := range map[string]struct {
		to, endpoint, protocol, verdict string
		mechanisms                      []admin.Mechanism
		want                            string
	}{
		"both ask for the bypass":       {"10.96.0.1:80", "10.0.0.2:80", "tcp", "translate", both, "socket_bypass"},
		"without a service":             {"10.0.0.2:80", "", "tcp", "pass", both, "socket_bypass"},
		"one does not ask":              {"10.96.0.1:80", "10.0.0.3:80", "tcp", "translate", both, "fast_path"},
		"bypass is off":                 {"10.96.0.1:80", "10.0.0.2:80", "tcp", "translate", both[:1], "fast_path"},
		"the peer is barred":            {"10.96.0.1:80", "10.0.0.4:80", "tcp", "translate", both, "stack"},
		"the peer is not captured":      {"10.96.0.1:80", "10.0.0.5:80", "tcp", "translate", both, "stack"},
		"another node":                  {"10.96.0.1:80", "10.0.9.9:80", "tcp", "translate", both, "stack"},
		"UDP":                           {"10.96.0.1:53", "10.0.0.2:53", "udp", "translate", both, "stack"},
		"to itself":                     {"10.96.0.1:80", "10.0.0.1:80", "tcp", "translate", both, "stack"},
		"an old kernel":                 {"10.96.0.1:80", "10.0.0.2:80", "tcp", "translate", nil, "stack"},
		"refused: no bytes are carried": {"10.96.0.1:80", "", "tcp", "refuse", both, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := &whyQuestion{namespace: "shop", pod: "client", protocol: tt.protocol}
			why := &admin.Why{Verdict: tt.verdict, Endpoint: tt.endpoint}
			got := carry(why, q, netip.MustParseAddrPort(tt.to), pods, tt.mechanisms)
			if got == nil && tt.want == "" {
				return
			}
			if got == nil || got.By != tt.want || got.Because == "" {
				t.Errorf("got %+v, want %q", got, tt.want)
			}
		})
	}
}
