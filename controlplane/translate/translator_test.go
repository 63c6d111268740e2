package translate_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/translate"
)

// A Translator gives what Build gives, over random walks, and takes over what
// did not change.
func TestTranslatorIsBuild(t *testing.T) {
	kept := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := cluster(8)
		s.Nodes = map[string]*model.Node{"n1": {Name: "n1", Zone: "a"}}
		s.Routes = make(map[model.Key]*model.Route)
		var translator translate.Translator
		var before *translate.Result
		for step := range 25 {
			got, want := translator.Build(s), translate.Build(s)
			if !maps.EqualFunc(got.Audiences, want.Audiences, slices.Equal) || !slices.Equal(got.Problems, want.Problems) {
				t.Fatalf("seed %d, step %d: audiences or problems differ: %v, want %v", seed, step, got.Problems, want.Problems)
			}
			same := func(a, b translate.Resource) bool {
				return a.Type == b.Type && a.Name == b.Name && slices.Equal(a.Audiences, b.Audiences) && proto.Equal(a.Message, b.Message)
			}
			if !slices.EqualFunc(got.Resources, want.Resources, same) {
				t.Fatalf("seed %d, step %d: resources differ:\n%v\nwant\n%v", seed, step, got.Resources, want.Resources)
			}
			if before != nil {
				for _, x := range got.Resources {
					if slices.ContainsFunc(before.Resources, func(y translate.Resource) bool { return x.Message == y.Message }) {
						kept++
					}
				}
			}
			before, s = got, mutate(r, s)
		}
	}
	if kept < 60*25*8 {
		t.Errorf("only %d messages were taken over", kept)
	}
}

// mutate changes one thing, as a source does: with new objects in a new snapshot.
func mutate(r *rand.Rand, old *model.Snapshot) *model.Snapshot {
	s := *old
	key := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", r.IntN(8))}
	another := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", r.IntN(8))}
	switch r.IntN(11) {
	case 0:
		s.Nodes = map[string]*model.Node{"n1": {Name: "n1", Zone: fmt.Sprint(r.IntN(2))}}
	case 1:
		s.Services = maps.Clone(s.Services)
		if s.Services[key] == nil {
			s.Services[key] = cluster(8).Services[key]
		} else {
			delete(s.Services, key)
		}
	case 2:
		if service := s.Services[key]; service != nil {
			s.Services = maps.Clone(s.Services)
			next := *service
			next.Locality = model.Locality(r.IntN(4))
			next.Created = time.Unix(int64(r.IntN(3)), 0)
			next.Ingress = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(r.IntN(2))}), netip.MustParseAddr("10.96.0.1")}[:r.IntN(3)]
			next.Ports = []model.ServicePort{{Port: 80, Protocol: model.TCP, TargetPort: 80}, {Name: "dns", Port: 53, Protocol: model.UDP, TargetPort: 53}}
			s.Services[key] = &next
		}
	case 3, 4:
		s.Routes = maps.Clone(s.Routes)
		if s.Routes[key] != nil && r.IntN(2) == 0 {
			delete(s.Routes, key)
			break
		}
		parent := model.Parent{Service: another, Port: 80}
		route := key
		route.Namespace = []string{"shop", "web"}[r.IntN(2)]
		s.Routes[route] = &model.Route{Key: route, Parents: []model.Parent{parent}, Rules: 1,
			Backends: []model.Backend{{Service: key, Port: 80, Weight: uint32(r.IntN(100))}, {Service: another, Port: 80, Weight: 1}}}
	case 5:
		s.Namespaces = map[string]*model.Namespace{"shop": {Name: "shop", Mesh: []string{model.MeshEnabled, model.MeshDisabled, "typo"}[r.IntN(3)]}}
	case 6:
		s.Policies = maps.Clone(s.Policies)
		if s.Policies == nil {
			s.Policies = make(map[model.Key]*model.TrafficPolicy)
		}
		if s.Policies[key] != nil {
			delete(s.Policies, key)
			break
		}
		wish := model.Locality(r.IntN(4))
		s.Policies[key] = &model.TrafficPolicy{Key: key, Targets: []model.PolicyTarget{{Service: another}}, Locality: &wish}
	case 7:
		s.Mesh = &model.MeshConfig{PodStart: model.PodStart{Drop: r.IntN(2) == 0}}
	case 8:
		s.Pods = maps.Clone(s.Pods)
		pod := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d-%d", r.IntN(8), r.IntN(10))}
		delete(s.Pods, pod)
	default:
		s.Slices = maps.Clone(s.Slices)
		part := model.Key{Namespace: "shop", Name: fmt.Sprintf("%s-%d", key.Name, r.IntN(3))}
		if s.Slices[part] != nil && r.IntN(2) == 0 {
			delete(s.Slices, part)
			break
		}
		s.Slices[part] = &model.Slice{Key: part, Service: key.Name, Ports: []model.NamedPort{{Port: 80, Protocol: model.TCP}},
			Endpoints: []model.SliceEndpoint{{Address: netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + r.IntN(9))}), Node: "n1", Health: model.Health(r.IntN(3))}}}
	}
	return &s
}

// Pods of Heddle's own namespace do not wait for an agent, whatever the MeshConfig
// says.
func TestExempt(t *testing.T) {
	tr := translate.Translator{Exempt: "mesh"}
	for want, config := range map[string]*model.MeshConfig{
		"mesh":            nil,
		"batch mesh zeal": {PodStart: model.PodStart{Drop: true, ExemptNamespaces: []string{"batch", "mesh", "zeal"}}},
		"batch mesh":      {PodStart: model.PodStart{ExemptNamespaces: []string{"batch"}}},
	} {
		s := &model.Snapshot{Nodes: map[string]*model.Node{"n1": {Name: "n1"}}, Mesh: config}
		start := tr.Build(s).Resources[0].Message.(*xds.Node).PodStart
		if got := strings.Join(start.GetExemptNamespaces(), " "); got != want {
			t.Errorf("exempt are %q, want %q", got, want)
		}
		if drop := config != nil && config.PodStart.Drop; drop != (start.GetWhenAgentDown() == xds.PodStart_DROP) {
			t.Errorf("%q: %v", want, start)
		}
	}
}
