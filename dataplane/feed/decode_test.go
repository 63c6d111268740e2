package feed

import (
	"fmt"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
)

func encoded(t testing.TB, m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// broken applies a change to a good message and returns it: a test states only
// what it breaks.
func broken[T proto.Message](m T, change func(T)) T {
	change(m)
	return m
}

func TestDecodeRefuses(t *testing.T) {
	svc := func(change func(*xds.Service)) proto.Message { return broken(feedtest.Service("cart", 1), change) }
	cl := func(change func(*xds.Cluster)) proto.Message { return broken(feedtest.Cluster("cart", 1), change) }
	wl := func(change func(*xds.Workload)) proto.Message { return broken(feedtest.Workload("web", true), change) }
	mapped := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1}
	for name, test := range map[string]struct {
		resource string
		message  proto.Message
		want     string
	}{
		"node of another name":    {"node2", &xds.Node{Name: "node2"}, `this node is "node1"`},
		"node zone":               {node, &xds.Node{Name: node, Zone: "a b"}, "zone"},
		"node resource name":      {"node2", &xds.Node{Name: node}, "does not match"},
		"workload name":           {"shop/web", wl(func(w *xds.Workload) { w.Name = "" }), "name is empty"},
		"workload namespace":      {"shop/web", wl(func(w *xds.Workload) { w.Namespace = strings.Repeat("a", 64) }), "the limit is 63"},
		"workload resource name":  {"shop/other", wl(func(*xds.Workload) {}), "does not match"},
		"workload node":           {"shop/web", wl(func(w *xds.Workload) { w.Node = "node2" }), "pod of node"},
		"workload address length": {"shop/web", wl(func(w *xds.Workload) { w.Addresses[0] = []byte{1} }), "must have 4 or 16"},
		"workload addresses":      {"shop/web", wl(func(w *xds.Workload) { w.Addresses = make([][]byte, 5) }), "the limit is 4"},
		"service resource name":   {"shop/other", svc(func(*xds.Service) {}), "does not match"},
		"service scope":           {"shop/cart", svc(func(s *xds.Service) { s.Scope = "team" }), "does not match"},
		"service control byte":    {"shop/cart\n", svc(func(s *xds.Service) { s.Name = "cart\n" }), "character"},
		"service mapped address":  {"shop/cart", svc(func(s *xds.Service) { s.Addresses[0] = mapped }), "IPv4 address in 16 bytes"},
		"service loopback":        {"shop/cart", svc(func(s *xds.Service) { s.Addresses[0] = []byte{127, 0, 0, 1} }), "loopback"},
		"service any address":     {"shop/cart", svc(func(s *xds.Service) { s.Addresses[0] = make([]byte, 4) }), "no address"},
		"service address twice":   {"shop/cart", svc(func(s *xds.Service) { s.Addresses = append(s.Addresses, s.Addresses[0]) }), "twice"},
		"service addresses":       {"shop/cart", svc(func(s *xds.Service) { s.Addresses = make([][]byte, 17) }), "the limit is 16"},
		"service affinity":        {"shop/cart", svc(func(s *xds.Service) { s.AffinitySeconds = 86401 }), "affinity"},
		"policy ejection":         {"shop/cart/80/tcp", cl(func(c *xds.Cluster) { c.Policy = &xds.ClusterPolicy{Outlier: &xds.OutlierDetection{}} }), "at least 1"},
		"policy percent": {"shop/cart/80/tcp", cl(func(c *xds.Cluster) {
			c.Policy = &xds.ClusterPolicy{Outlier: &xds.OutlierDetection{ConsecutiveFailures: 1, MaxEjectionPercent: 101}}
		}), "more than 100"},
		"policy timeout":           {"shop/cart/80/tcp", cl(func(c *xds.Cluster) { c.Policy = &xds.ClusterPolicy{ConnectTimeoutMs: 1 << 31} }), "more than a day"},
		"service port 0":           {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Port = 0 }), "1 to 65535"},
		"service port 65536":       {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Port = 65536 }), "1 to 65535"},
		"service port twice":       {"shop/cart", svc(func(s *xds.Service) { s.Ports = append(s.Ports, s.Ports[0]) }), "appears twice"},
		"service protocol":         {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Protocol = 132 }), "protocol is 132"},
		"service protocol 262":     {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Protocol = 262 }), "protocol is 262"},
		"service without clusters": {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Clusters = nil }), "0 clusters"},
		"service clusters": {"shop/cart", svc(func(s *xds.Service) {
			for range 16 {
				s.Ports[0].Clusters = append(s.Ports[0].Clusters, s.Ports[0].Clusters[0])
			}
		}), "17 clusters"},
		"service weight":        {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Clusters[0].Weight = 1000001 }), "the limit is 1000000"},
		"service route":         {"shop/cart", svc(func(s *xds.Service) { s.Ports[0].Route = "a\x1b[31m" }), "unprintable"},
		"cluster name":          {"cart", cl(func(c *xds.Cluster) { c.Name = "cart" }), "not of the form"},
		"cluster name port":     {"shop/cart/080/tcp", cl(func(c *xds.Cluster) { c.Name = "shop/cart/080/tcp" }), "not a port"},
		"cluster name protocol": {"shop/cart/80/sctp", cl(func(c *xds.Cluster) { c.Name = "shop/cart/80/sctp" }), "tcp or udp"},
		"cluster resource name": {"shop/other/80/tcp", cl(func(*xds.Cluster) {}), "does not match"},
		"cluster locality":      {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Locality = 9 }), "locality 9"},
		"endpoint health":       {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Endpoints[0].Health = 0 }), "health 0"},
		"endpoint port":         {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Endpoints[0].Port = 0 }), "1 to 65535"},
		"endpoint multicast":    {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Endpoints[0].Address = []byte{224, 0, 0, 1} }), "no address"},
		"endpoints":             {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Endpoints = make([]*xds.Endpoint, 10001) }), "10001 endpoints"},
		"endpoint empty":        {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Endpoints = make([]*xds.Endpoint, 1) }), "0 bytes"},
		"too big":               {feedtest.ClusterName("cart"), cl(func(c *xds.Cluster) { c.Name = strings.Repeat("x", maxResource) }), "the limit is"},
		"long resource name":    {strings.Repeat("x", maxKey+1), cl(func(*xds.Cluster) {}), "resource name has"},
	} {
		t.Run(name, func(t *testing.T) {
			a := encoded(t, test.message)
			s := newStore(node)
			table := s.of(a.TypeUrl)
			err := table.put(&discovery.Resource{Name: test.resource, Resource: a})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if s.size() != 0 || len(table.refusals()) != 1 {
				t.Errorf("%d resources, refusals %v", s.size(), table.refusals())
			}
		})
	}
}

// The longest description of a backend that Gateway API allows: a route whose
// backend nobody knows must not keep its Service from being updated.
func TestLongestBackend(t *testing.T) {
	s := feedtest.Service("cart", 1)
	long := strings.Repeat("x", 253)
	s.Ports[0].Clusters[0] = &xds.WeightedCluster{Weight: 1, Backend: fmt.Sprintf("%s/%s %s/%s:65535", long, long[:63], long[:63], long)}
	if err := newStore(node).services.put(&discovery.Resource{Name: "shop/cart", Resource: encoded(t, s)}); err != nil {
		t.Error(err)
	}
}

func TestPutRefusesEnvelopes(t *testing.T) {
	services := newStore(node).services
	for want, r := range map[string]*discovery.Resource{
		"no contents":                        {Name: "shop/cart"},
		"in a response of Service":           {Name: "shop/cart", Resource: encoded(t, feedtest.Cluster("cart"))},
		"not a heddle.v1.Service":            {Name: "shop/cart", Resource: &anypb.Any{TypeUrl: xds.ServiceType, Value: []byte{0xff}}},
		"resource version has 300 bytes":     {Name: "shop/cart", Version: strings.Repeat("v", 300), Resource: encoded(t, feedtest.Service("cart", 1))},
		"name has the character '/' at byte": {Name: "shop/cart/x", Resource: encoded(t, broken(feedtest.Service("cart", 1), func(s *xds.Service) { s.Name = "cart/x" }))},
	} {
		if err := services.put(r); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `"cart/x" `, ""), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\n\x1b[2J\u009b2J\u202e\xffü"); got != "a??[2J?2J??ü" {
		t.Errorf("got %q", got)
	}
}

// FuzzDecode gives any bytes to every decoder: none may panic, and what is
// accepted is within the bounds.
func FuzzDecode(f *testing.F) {
	for _, m := range []proto.Message{&xds.Node{Name: node, Zone: "z"}, feedtest.Workload("web", true), feedtest.Cluster("cart", 1, 2), feedtest.Service("cart", 3)} {
		a := encoded(f, m)
		for i, url := range xds.Types {
			if url == a.TypeUrl {
				f.Add(uint8(i), "shop/cart", a.Value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, name string, value []byte) {
		url := xds.Types[int(kind)%len(xds.Types)]
		s := newStore(node)
		err := s.of(url).put(&discovery.Resource{Name: name, Version: "1", Resource: &anypb.Any{TypeUrl: url, Value: value}})
		if (err == nil) != (s.size() == 1) {
			t.Fatalf("error %v, but %d resources", err, s.size())
		}
		for _, svc := range s.services.share() {
			if len(svc.Addresses) > maxServiceAddresses || len(svc.Ports) > maxServicePorts {
				t.Fatalf("accepted %+v", svc)
			}
			for _, p := range svc.Ports {
				if p.Port == 0 || len(p.Clusters) == 0 || len(p.Clusters) > maxPortClusters {
					t.Fatalf("accepted %+v", p)
				}
			}
		}
		for _, c := range s.clusters.share() {
			for _, e := range c.Endpoints {
				if !e.Address.IsValid() || e.Address.Port() == 0 || e.Address.Addr().Is4In6() {
					t.Fatalf("accepted %+v", e)
				}
			}
		}
		if text := printable(name); strings.ContainsAny(text, "\n\r\x00") {
			t.Fatalf("printable kept a control character in %q", text)
		}
	})
}
