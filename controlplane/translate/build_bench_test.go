package translate_test

import (
	"fmt"
	"net/netip"
	"testing"

	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/translate"
)

// cluster makes a snapshot of a cluster in the mesh: each Service has ten pods.
func cluster(services int) *model.Snapshot {
	s := &model.Snapshot{
		Namespaces: map[string]*model.Namespace{"shop": {Name: "shop", Mesh: model.MeshEnabled}},
		Pods:       make(map[model.Key]*model.Pod),
		Services:   make(map[model.Key]*model.Service),
		Slices:     make(map[model.Key]*model.Slice),
	}
	address := netip.MustParseAddr("10.0.0.1")
	for i := range services {
		key := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", i)}
		s.Services[key] = &model.Service{Key: key, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []model.ServicePort{{Port: 80, Protocol: model.TCP, TargetPort: 80}}}
		slice := &model.Slice{Key: key, Service: key.Name, Ports: []model.NamedPort{{Port: 80, Protocol: model.TCP}}}
		for j := range 10 {
			pod := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d-%d", i, j)}
			node := fmt.Sprintf("n%d", (i+j)%100)
			s.Pods[pod] = &model.Pod{Key: pod, Node: node, Ready: true, Addresses: []netip.Addr{address}}
			slice.Endpoints = append(slice.Endpoints, model.SliceEndpoint{Address: address, Node: node, Health: model.Ready})
			address = address.Next()
		}
		s.Slices[key] = slice
	}
	return s
}

func BenchmarkBuild(b *testing.B) {
	for _, services := range []int{10, 1000, 10_000} {
		s := cluster(services)
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				translate.Build(s)
			}
		})
	}
}

func TestTooManyEndpoints(t *testing.T) {
	s := cluster(1)
	key := model.Key{Namespace: "shop", Name: "s0"}
	address := netip.MustParseAddr("10.1.0.1")
	for range 10_001 {
		s.Slices[key].Endpoints = append(s.Slices[key].Endpoints, model.SliceEndpoint{Address: address, Health: model.Ready})
		address = address.Next()
	}
	r := translate.Build(s)
	if len(r.Problems) != 1 || r.Problems[0].Reason != "TooManyEndpoints" {
		t.Errorf("problems %v", r.Problems)
	}
}

// However many objects are wrong, what is said about them stays readable, and what
// is different is not lost among what is alike.
func TestProblemsAreBounded(t *testing.T) {
	s := cluster(1)
	s.Routes = make(map[model.Key]*model.Route)
	for i := range 1000 {
		key := model.Key{Namespace: "shop", Name: fmt.Sprintf("r%04d", i)}
		s.Routes[key] = &model.Route{Key: key, Parents: []model.Parent{{Service: model.Key{Namespace: "shop", Name: "gone"}}}}
	}
	s.Namespaces["typo"] = &model.Namespace{Name: "typo", Mesh: "enable"}
	r := translate.Build(s)
	count := make(map[string]int)
	for _, p := range r.Problems {
		count[p.Reason]++
	}
	if count["NoMatchingParent"] != 200 || count["TooManyProblems"] != 1 || count["InvalidLabel"] != 1 {
		t.Errorf("problems by reason: %v", count)
	}
}
