package admin

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
)

func TestServicesShowExpectedAndObservedShares(t *testing.T) {
	s := newStub(t, shop)
	p := s.port(t, "shop/cart")
	v4, v6 := p.IDs[0], p.IDs[1]
	cart, canary := p.Backends[0].IDs, p.Backends[1].IDs
	s.count(v4, cart[0], "10.1.0.1:8080", bpf.StatVal{Opened: 80, Established: 79, Closed: 70})
	s.count(v6, cart[1], "[fd00::1]:8080", bpf.StatVal{Opened: 12, Closed: 13}) // a counter that was forgotten
	s.count(v4, canary[0], "10.1.0.3:8080", bpf.StatVal{Opened: 6})
	s.count(v4, canary[0], "10.1.0.99:8080", bpf.StatVal{Opened: 1}) // an endpoint that is gone still counts
	s.refusals[bpf.RefusalKey{Service: v4, Reason: bpf.ReasonBackendMissing}] = 5
	s.refusals[bpf.RefusalKey{Service: v6, Reason: bpf.ReasonNoEndpoint}] = 3
	s.ejected = map[bpf.OutlierKey]time.Duration{
		{Cluster: cart[0], Addr: bpf.AddrFrom(netip.MustParseAddr("10.1.0.1")), PortBe: bpf.PortBE(8080)}: 20 * time.Second,
	}
	since := time.Now()
	s.view.Records[portHTTP] = Record{Programmed: since, Opened: map[Choice]uint64{
		{v4, cart[0]}: 2, {v4, canary[0]}: 2, {v4, 0}: 0,
	}}

	list, err := Services(s.view, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Name != "cart" || list[1].Scope != "bank" || list[2].Protocol != "udp" {
		t.Fatalf("services are %+v", list)
	}
	got := list[0]
	if got.Programmed != since || got.Route != "TCPRoute/shop/canary" || got.Affinity != 30 || !slices.Equal(got.Addresses, []string{"10.96.0.10", "fd00:96::10"}) {
		t.Errorf("service is %+v", got)
	}
	// 78+12 to cart, 5 to canary, 5 refused for the missing one.
	for i, want := range []struct {
		share, observed float64
		opened, open    uint64
		endpoints       int
	}{{.90, .90, 92, 10, 3}, {.05, .05, 7, 7, 1}, {.05, .05, 0, 0, 0}} {
		b := got.Backends[i]
		if math.Abs(b.Share-want.share) > 1e-9 || math.Abs(b.Observed-want.observed) > 1e-9 || b.Opened != want.opened || b.Open != want.open || len(b.Endpoints) != want.endpoints {
			t.Errorf("backend %d is %+v, want %+v", i, b, want)
		}
	}
	if e := got.Backends[0].Endpoints; !e[0].Used || e[0].Opened != 80 || e[0].Open != 10 || e[1].Used || !e[1].Draining {
		t.Errorf("endpoints are %+v", e)
	}
	if e := got.Backends[0].Endpoints; e[0].EjectedSeconds != 20 || e[1].EjectedSeconds != 0 {
		t.Errorf("ejections of endpoints are %v and %v seconds", e[0].EjectedSeconds, e[1].EjectedSeconds)
	}
	if got.Backends[2].Problem != "backend_missing" {
		t.Errorf("problem is %q", got.Backends[2].Problem)
	}
	if want := []api.Count{{Name: "no_endpoint", Count: 3}, {Name: "backend_missing", Count: 5}}; !slices.Equal(got.Refused, want) {
		t.Errorf("refused are %v", got.Refused)
	}
	if b := list[2].Backends[0]; b.Observed != 0 || b.Problem != "no_local_endpoint" {
		t.Errorf("a backend without connections is %+v", b)
	}
}

func TestClustersListEveryEndpoint(t *testing.T) {
	s := newStub(t, shop)
	list, err := Clusters(s.view, s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
		switch c.Name {
		case "shop/cart/80/tcp":
			if len(c.Endpoints) != 3 || len(c.ID) != 33 {
				t.Errorf("cluster of two families is %+v", c)
			}
		case "shop/idle/80/tcp": // no service uses it
			if len(c.Endpoints) != 1 || c.Endpoints[0].Used || c.ID != "" {
				t.Errorf("idle cluster is %+v", c)
			}
		case "shop/dns/53/udp":
			if c.Locality != "OnlySameNode" || len(c.Endpoints) != 0 {
				t.Errorf("local cluster is %+v", c)
			}
		}
	}
	if !slices.IsSorted(names) || len(names) != 4 {
		t.Errorf("clusters are %v", names)
	}
}

// Before a state is known there is nothing to show, which is no error.
func TestNothingInForce(t *testing.T) {
	s := &stub{}
	if list, err := Services(nil, s); err != nil || list == nil || len(list) != 0 {
		t.Errorf("services: %v, %v", list, err)
	}
	if list, err := Clusters(nil, s); err != nil || list == nil || len(list) != 0 {
		t.Errorf("clusters: %v, %v", list, err)
	}
	if _, err := Status(api.AgentStatus{}, nil, s); err != nil {
		t.Error(err)
	}
}
