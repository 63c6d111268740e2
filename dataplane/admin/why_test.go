package admin

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
)

// The kernel's answer is given; what is tested is that the lookups that led to
// it are listed in its order.
func TestWhyListsWhatWasRead(t *testing.T) {
	s := newStub(t, shop)
	cart, bank, dns := s.port(t, "shop/cart"), s.port(t, "shop/cart@bank"), s.port(t, "shop/dns")
	for name, test := range map[string]struct {
		question api.WhyRequest
		out      bpf.ConnectOut
		read     string
		verdict  string
		service  string
		backends int
	}{
		"balanced": {
			api.WhyRequest{Source: "shop/web", Address: "10.96.0.10", Port: 80, Protocol: "tcp"},
			bpf.ConnectOut{Verdict: bpf.VerdictTranslate, Reason: bpf.ReasonBalanced, Service: cart.IDs[0], Cluster: cart.Backends[1].IDs[0], Index: 0},
			`hd_pods 7: scope=shop ifindex=3
hd_services 10.96.0.10:80/tcp scope=*: service=shop/cart:80/tcp#4 split=shop/cart:80/tcp#4 affinity=30s scoped
hd_services 10.96.0.10:80/tcp scope=SHOP: (absent)
hd_affinity shop/cart:80/tcp#4 netns=7: (absent, older than 30s, or of an endpoint that is gone)
hd_splits shop/cart:80/tcp#4: SPLIT
hd_clusters shop/canary/80/tcp#4: count=1
hd_endpoints shop/canary/80/tcp#4[0]: 10.1.0.3:8080
`, "translate", "shop/cart:80/tcp", 3},
		"variant": {
			api.WhyRequest{Source: "bank/teller", Address: "10.96.0.10", Port: 80},
			bpf.ConnectOut{Verdict: bpf.VerdictTranslate, Reason: bpf.ReasonBalanced, Service: bank.IDs[0], Cluster: bank.Backends[0].IDs[0], Index: 0},
			`hd_pods 8: scope=bank ifindex=4
hd_services 10.96.0.10:80/tcp scope=*: service=shop/cart:80/tcp#4 split=shop/cart:80/tcp#4 affinity=30s scoped
hd_services 10.96.0.10:80/tcp scope=bank: service=shop/cart:80/tcp@bank#4 cluster=shop/canary/80/tcp#4
hd_clusters shop/canary/80/tcp#4: count=1
hd_endpoints shop/canary/80/tcp#4[0]: 10.1.0.3:8080
`, "translate", "shop/cart@bank:80/tcp", 1},
		"affinity": {
			api.WhyRequest{Source: "shop/web", Address: "fd00:96::10", Port: 80, Protocol: "tcp"},
			bpf.ConnectOut{Verdict: bpf.VerdictTranslate, Reason: bpf.ReasonAffinity, Service: cart.IDs[1], Cluster: cart.Backends[0].IDs[1],
				Index: bpf.None, Addr: bpf.AddrFrom(netip.MustParseAddr("fd00::1")), PortBe: bpf.PortBE(8080)},
			`hd_pods 7: scope=shop ifindex=3
hd_services [fd00:96::10]:80/tcp scope=*: service=shop/cart:80/tcp#6 split=shop/cart:80/tcp#6 affinity=30s
hd_affinity shop/cart:80/tcp#6 netns=7: [fd00::1]:8080
hd_members shop/cart:80/tcp#6 [fd00::1]:8080: shop/cart/80/tcp#6
`, "translate", "shop/cart:80/tcp", 3},
		"empty": {
			api.WhyRequest{Source: "shop/web", Address: "10.96.0.11", Port: 53, Protocol: "udp"},
			bpf.ConnectOut{Verdict: bpf.VerdictRefuse, Reason: bpf.ReasonNoLocalEndpoint, Service: dns.IDs[0], Cluster: dns.Backends[0].IDs[0], Index: bpf.None},
			`hd_pods 7: scope=shop ifindex=3
hd_services 10.96.0.11:53/udp scope=*: service=shop/dns:53/udp#4 cluster=shop/dns/53/udp#4
hd_clusters shop/dns/53/udp#4: count=0 local-only
`, "refuse", "shop/dns:53/udp", 1},
		"no service": {
			api.WhyRequest{Source: "shop/web", Address: "::ffff:10.96.0.11", Port: 54, Protocol: "udp"},
			bpf.ConnectOut{Verdict: bpf.VerdictPass, Reason: bpf.ReasonNotService, Index: bpf.None},
			"hd_pods 7: scope=shop ifindex=3\nhd_services 10.96.0.11:54/udp scope=*: (absent)\n", "pass", "", 0},
		"outside": {
			api.WhyRequest{Source: "other/outside", Address: "10.96.0.10", Port: 80, Protocol: "tcp"},
			bpf.ConnectOut{Verdict: bpf.VerdictPass, Reason: bpf.ReasonNotEnrolled, Index: bpf.None},
			"hd_pods 9: (absent)\n", "pass", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s.decide = func(in bpf.ConnectIn) bpf.ConnectOut {
				if in.Rnd == 0 || in.NowNs == 0 || in.Cgroup != 0 {
					t.Errorf("asked %+v", in)
				}
				return test.out
			}
			w, err := Why(s, s, test.question)
			if err != nil {
				t.Fatal(err)
			}
			want := test.read
			for _, l := range w.Read { // what the plan's own tests hold
				if l.Map == bpf.MapSplits {
					want = strings.Replace(want, "SPLIT", l.Value, 1)
				}
				if _, scope, ok := strings.Cut(l.Key, "scope="); ok && l.Value == "(absent)" {
					want = strings.Replace(want, "SHOP", scope, 1)
				}
			}
			if got := lines(w.Read); got != want {
				t.Errorf("read\n%swant\n%s", got, want)
			}
			if w.Verdict != test.verdict || w.Service != test.service || len(w.Backends) != test.backends || w.Explanation == "" {
				t.Errorf("answer is %+v", w)
			}
		})
	}
}

func TestWhyRefusesQuestions(t *testing.T) {
	s := newStub(t, shop)
	for want, q := range map[string]api.WhyRequest{
		"not an IP address":  {Source: "shop/web", Address: "cart.shop", Port: 80},
		"is not an IP":       {Source: "shop/web", Address: "fe80::1%eth0", Port: 80},
		"port is 0":          {Source: "shop/web", Address: "10.96.0.10"},
		"neither tcp nor":    {Source: "shop/web", Address: "10.96.0.10", Port: 80, Protocol: "sctp"},
		"pod was not announ": {Source: "shop/none", Address: "10.96.0.10", Port: 80},
	} {
		_, err := Why(s, s, q)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errQuestion) && !errors.Is(err, errUnknownPod) {
			t.Errorf("%+v: got %v, want %q", q, err, want)
		}
	}
}
