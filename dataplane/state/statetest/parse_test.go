package statetest

import (
	"math/rand/v2"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/state"
)

const example = `node n1 zone=a
workload shop/cart-0 10.1.0.4,fd00::4 uid=u1 sa=cart mesh bypass
workload web/edge-0 - host
service shop/cart 10.96.0.10 affinity=30
  port http 80/tcp route=TCPRoute/shop/canary
    90 shop/cart/80/tcp shop/cart:80
    10 - shop/gone:80
  port - 53/udp
    1 shop/dns/53/udp -
service shop/cart@web 10.96.0.10
  port http 80/tcp
cluster shop/cart/80/tcp prefer-zone
  10.1.0.4:8080 node=n1 zone=a workload=shop/cart-0
  [fd00::5]:8080 node=n2 zone=b draining
cluster shop/db/5432/tcp any timeout=1.5s max=100 eject=5,30s,50%
cluster shop/dns/53/udp any
`

func TestTextRoundTrip(t *testing.T) {
	s, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != example {
		t.Errorf("got\n%s\nwant\n%s", got, example)
	}
	if p := s.Services["shop/cart"].Ports[1]; p.Protocol != state.UDP || p.Name != "" || p.Clusters[0].Backend != "" {
		t.Errorf("port %+v", p)
	}
	if e := s.Clusters["shop/cart/80/tcp"].Endpoints[1]; !e.Draining || e.Zone != "b" || !e.Address.Addr().Is6() {
		t.Errorf("endpoint %+v", e)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		s := Mutate(r, Random(r))
		back, err := Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		if back.String() != s.String() {
			t.Fatalf("got\n%s\nwant\n%s", back, s)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"node", "needs a name"},
		{"nodes n1", "unknown word"},
		{"workload cart -", "not namespace/name"},
		{"workload shop/cart", "addresses are missing"},
		{"workload shop/cart 10.1", "ParseAddr"},
		{"service cart -", "not namespace/name"},
		{"service a/b - affinity=x", "invalid syntax"},
		{"port http 80/tcp", "under a service"},
		{"service a/b -\n port http 80/sctp", "neither tcp nor udp"},
		{"service a/b -\n port http 99999/tcp", "out of range"},
		{"90 x", "under a port"},
		{"cluster x far", "unknown locality"},
		{"cluster x\n 10.0.0.1:x", "invalid port"},
	} {
		if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
}
