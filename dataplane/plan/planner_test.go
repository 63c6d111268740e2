package plan

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"heddle.io/heddle/dataplane/state"
	"heddle.io/heddle/dataplane/state/statetest"
)

// A Planner gives what Build gives, over random walks.
func TestPlannerIsBuild(t *testing.T) {
	patched := 0
	for seed := range *cases {
		w := walk{T: t, seed: seed, r: rand.New(rand.NewPCG(seed, 7))}
		patched += w.plans()
	}
	if int(*cases) >= 100 && patched < int(*cases) {
		t.Errorf("only %d plans were made from the one before: the walks prove nothing", patched)
	}
	t.Logf("%d plans were made from the one before", patched)
}

// plans walks and returns how many plans did not need Build.
func (w walk) plans() (patched int) {
	limits := plenty
	if w.r.IntN(3) == 0 {
		limits = Limits{Pods: 2 + w.r.IntN(4), Services: w.r.IntN(40), Splits: w.r.IntN(16),
			Clusters: w.r.IntN(30), Endpoints: w.r.IntN(60), Members: w.r.IntN(60)}
	}
	var planner Planner
	current := NewContents()
	s, pods := statetest.Random(w.r), randomPods(w.r)
	variants := w.r.IntN(4) == 0 // they stay
	if !variants {
		s = withoutVariants(s)
	}
	for range 30 {
		probe := planner
		if _, _, ok := probe.update(s, pods, limits, current); ok {
			patched++
		}
		want, index, problems := Build(s, pods, limits, current)
		got, gotIndex, gotProblems := planner.Build(s, pods, limits, current)
		if text := got.Text(gotIndex.Name); text != want.Text(index.Name) {
			w.fail("contents\n%s\nwant\n%s\nof\n%s", text, want.Text(index.Name), s)
		}
		if !reflect.DeepEqual(got.Clusters, want.Clusters) || !reflect.DeepEqual(got.Counters, want.Counters) || got.Deferred != want.Deferred {
			w.fail("clusters, counters or deferral differ, of\n%s", s)
		}
		samePort := func(a, b *ServicePort) bool { return reflect.DeepEqual(a, b) }
		if !slices.EqualFunc(gotIndex.Ports, index.Ports, samePort) || !reflect.DeepEqual(gotIndex.services, index.services) ||
			!reflect.DeepEqual(gotIndex.clusters, index.clusters) || !reflect.DeepEqual(gotIndex.scopes, index.scopes) {
			w.fail("index differs, of\n%s", s)
		}
		if !reflect.DeepEqual(gotProblems, problems) {
			w.fail("problems %v, want %v, of\n%s", gotProblems, problems, s)
		}
		if ops, wantOps := Diff(current, got), Diff(current, want); !reflect.DeepEqual(ops, wantOps) {
			w.fail("operations %v, want %v, of\n%s", ops, wantOps, s)
		}
		current = got
		switch next := statetest.Mutate(w.r, s); w.r.IntN(6) {
		case 0:
			pods = randomPods(w.r)
		case 1: // the same again
		default:
			if !variants && w.r.IntN(4) > 0 {
				next = withoutVariants(next)
			}
			s = next
		}
	}
	return patched
}

// withoutVariants leaves out what makes services depend on each other.
func withoutVariants(s *state.Snapshot) *state.Snapshot {
	next := *s
	next.Services = maps.Clone(s.Services)
	maps.DeleteFunc(next.Services, func(_ string, svc state.Service) bool { return svc.Scope != "" })
	return &next
}

// Services that contend for an id are planned by Build.
func TestPlannerFindsCollisions(t *testing.T) {
	collide := func(kind, name string) uint64 {
		if kind == "service" && (name == "shop/a:80/tcp#4" || name == "shop/b:80/tcp#4") {
			return 42
		}
		return id(kind, name)
	}
	planner := Planner{id: collide}
	one := parse(t, `node n1
service shop/a 10.96.0.1
  port - 80/tcp
    1 shop/a/80/tcp shop/a:80
cluster shop/a/80/tcp any
  10.1.0.1:80
`)
	two := parse(t, one.String()+`service shop/b 10.96.0.2
  port - 80/tcp
    1 shop/a/80/tcp shop/b:80
`)
	contents, _, _ := planner.Build(one, nil, plenty, NewContents())
	contents, _, problems := planner.Build(two, nil, plenty, contents)
	if len(problems) != 1 || problems[0].Reason != ReasonIDCollision || len(contents.Services) != 1 {
		t.Errorf("problems %v, services %v", problems, contents.Services)
	}
}

func parse(t *testing.T, text string) *state.Snapshot {
	t.Helper()
	s, err := statetest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
