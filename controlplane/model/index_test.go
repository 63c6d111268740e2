package model

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestSelectorsMatch: the endpoints of a Service are the ready pods of its
// namespace with all labels of its selector, and no others.
func TestSelectorsMatch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	labels := func(n int) map[string]string {
		out := make(map[string]string)
		for range random.IntN(n) {
			out[fmt.Sprint("k", random.IntN(3))] = fmt.Sprint("v", random.IntN(3))
		}
		return out
	}
	for range 300 {
		s := &Snapshot{Pods: make(map[Key]*Pod), Services: make(map[Key]*Service)}
		address := netip.MustParseAddr("10.0.0.1")
		for i := range 20 {
			k := Key{fmt.Sprint("ns", random.IntN(2)), fmt.Sprint("p", i)}
			s.Pods[k] = &Pod{Key: k, Labels: labels(5), Addresses: []netip.Addr{address}, Ready: random.IntN(5) > 0}
			address = address.Next()
		}
		for i := range 5 {
			k := Key{fmt.Sprint("ns", random.IntN(2)), fmt.Sprint("s", i)}
			s.Services[k] = &Service{Key: k, Selector: labels(4), IPv4: true}
		}
		x := s.Index()
		for k, service := range s.Services {
			var want []netip.AddrPort
			for _, p := range s.Pods {
				if p.Ready && p.Namespace == k.Namespace && len(service.Selector) > 0 && matches(service.Selector, p.Labels) {
					want = append(want, netip.AddrPortFrom(p.Addresses[0], 80))
				}
			}
			slices.SortFunc(want, netip.AddrPort.Compare)
			var got []netip.AddrPort
			for _, e := range x.Endpoints(service, ServicePort{Protocol: TCP, TargetPort: 80}) {
				got = append(got, e.Address)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("selector %v has endpoints %v, want %v", service.Selector, got, want)
			}
		}
	}
}
