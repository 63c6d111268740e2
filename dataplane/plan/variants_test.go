package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
)

// external has a variant that stands alone, a plain service, and what a step
// of the test adds.
func external(t *testing.T, endpoint, more string) *state.Snapshot {
	t.Helper()
	return parse(t, fmt.Sprintf(`node n1
service shop/db.external@shop 192.0.2.1
  port - 5432/tcp
    1 db db:5432
service shop/cart 10.96.0.1
  port - 80/tcp
    1 cart cart:80
%scluster db
  10.9.0.1:5432
cluster cart
  %s
`, more, endpoint))
}

// A Planner keeps an entry that is there for variants alone, and gives it away
// when a Service comes to its address, and back when that goes.
func TestPlannerKeepsLoneVariants(t *testing.T) {
	const owner = "service bank/db 192.0.2.1\n  port - 5432/tcp\n    1 cart cart:80\n"
	key := bpf.ServiceKey{Addr: bpf.AddrFrom(netip.MustParseAddr("192.0.2.1")), PortBe: bpf.PortBE(5432), Proto: 6}
	alone, shared := bpf.ServiceScoped|bpf.ServiceVariants, bpf.ServiceScoped
	var planner Planner
	k, current := newKernel(plenty), NewContents()
	for i, step := range []struct {
		endpoint, more string
		flags          bpf.ServiceFlag
	}{
		{"10.1.0.1:80", "", alone},
		{"10.1.0.2:80", "", alone}, // only the plain service is planned again
		{"10.1.0.2:80", owner, shared},
		{"10.1.0.3:80", owner, shared},
		{"10.1.0.3:80", "", alone},
	} {
		s := external(t, step.endpoint, step.more)
		want, _, _ := Build(s, nil, plenty, current)
		got, _, problems := planner.Build(s, nil, plenty, current)
		if len(problems) > 0 || !reflect.DeepEqual(got.Services, want.Services) {
			t.Errorf("step %d: services %v, problems %v, want %v", i, got.Services, problems, want.Services)
		}
		if flags := got.Services[key].Flags; flags != step.flags {
			t.Errorf("step %d: the entry for everybody has flags %v, want %v", i, flags, step.flags)
		}
		for _, op := range Diff(current, got) {
			if err := k.apply(op); err != nil {
				t.Fatal(err)
			}
		}
		if _, found := k.find(client{ScopeID("shop"), key}); !found {
			t.Errorf("step %d: the variant's own namespace does not find it", i)
		}
		if _, found := k.find(client{ScopeID("web"), key}); found != (step.more != "") {
			t.Errorf("step %d: another namespace finds a service: %v", i, found)
		}
		current = got
	}
}

// A lone variant takes two entries; without room for both it takes none.
func TestLoneVariantNeedsTwoEntries(t *testing.T) {
	limits := plenty
	for services, want := range map[int]int{3: 3, 2: 1} { // the plain service has one
		limits.Services = services
		contents, _, problems := Build(external(t, "10.1.0.1:80", ""), nil, limits, nil)
		if len(contents.Services) != want || (len(problems) == 0) != (services == 3) {
			t.Errorf("room for %d: services %v, problems %v", services, contents.Services, problems)
		}
	}
}
