package plan

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/state"
	"heddle.io/heddle/dataplane/state/statetest"
)

var update = flag.Bool("update", false, "write what was computed into testdata")

var plenty = Limits{Pods: 1000, Services: 1000, Splits: 1000, Clusters: 1000, Endpoints: 1000, Members: 1000}

// A golden file is a sequence of sections "-- name --". The inputs state,
// pods, limits and collide stay in force until they come again; before every
// output the plan is built once. Outputs: contents, ops (from the contents
// before), problems, index.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, sections := split(string(text))
			g := golden{t: t, limits: plenty, id: id, contents: NewContents(), names: map[uint64]string{}}
			var out strings.Builder
			out.WriteString(head)
			for _, s := range sections {
				body := g.section(s)
				if body != s.body && !*update {
					t.Errorf("section %s:\n%swant\n%s", s.name, body, s.body)
				}
				fmt.Fprintf(&out, "-- %s --\n%s", s.name, body)
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type section struct{ name, body string }

func split(text string) (head string, sections []section) {
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok {
			sections = append(sections, section{name: strings.TrimSuffix(name, " --")})
		} else if len(sections) == 0 {
			head += line
		} else {
			sections[len(sections)-1].body += line
		}
	}
	return head, sections
}

type golden struct {
	t        *testing.T
	snapshot *state.Snapshot
	pods     []Pod
	limits   Limits
	id       hasher

	fresh    bool // the inputs were built
	contents *Contents
	index    *Index
	problems []Problem
	ops      []Op
	names    map[uint64]string // of all steps: an operation may delete what is not known any more
}

// section returns the body as it should be: inputs as they are, outputs as
// they were computed.
func (g *golden) section(s section) string {
	switch s.name {
	case "state":
		var err error
		if g.snapshot, err = statetest.Parse(s.body); err != nil {
			g.t.Fatal(err)
		}
		g.fresh = false
		return s.body
	case "pods":
		g.pods = parsePods(g.t, s.body)
		g.fresh = false
		return s.body
	case "limits":
		g.limits = parseLimits(g.t, s.body)
		g.fresh = false
		return s.body
	case "collide":
		g.id = colliding(s.body)
		g.fresh = false
		return s.body
	}
	g.build()
	switch s.name {
	case "contents":
		return g.contents.Text(g.name) + "\n"
	case "ops":
		var b strings.Builder
		for _, op := range g.ops {
			b.WriteString(op.Text(g.name) + "\n")
		}
		return b.String() + "\n"
	case "problems":
		var b strings.Builder
		for _, p := range g.problems {
			b.WriteString(p.String() + "\n")
		}
		if g.contents.Deferred {
			b.WriteString("deferred\n")
		}
		return b.String() + "\n"
	case "index":
		return indexText(g.index) + "\n"
	}
	g.t.Fatalf("unknown section %q", s.name)
	return ""
}

func (g *golden) build() {
	if g.fresh {
		return
	}
	g.fresh = true
	before := g.contents
	g.contents, g.index, g.problems = build(g.snapshot, g.pods, g.limits, before, g.id)
	g.ops = Diff(before, g.contents)
	for id := range g.index.services {
		g.names[id] = g.index.Name(id)
	}
	for id := range g.index.clusters {
		g.names[id] = g.index.Name(id)
	}
	for id := range g.index.scopes {
		g.names[id] = g.index.Name(id)
	}
}

func (g *golden) name(id uint64) string { return g.names[id] }

// parsePods reads lines "namespace/name netns ifindex address,address", with
// "bypass" behind it when the pod asks for that.
func parsePods(t *testing.T, text string) (pods []Pod) {
	for line := range strings.Lines(text) {
		var p Pod
		var name, addresses string
		if _, err := fmt.Sscan(line, &name, &p.Netns, &p.Ifindex, &addresses); err != nil {
			continue
		}
		p.Namespace, p.Name, _ = strings.Cut(name, "/")
		for _, a := range strings.Split(addresses, ",") {
			ip, err := netip.ParseAddr(a)
			if err != nil {
				t.Fatal(err)
			}
			p.Addresses = append(p.Addresses, ip)
		}
		p.Bypass = strings.HasSuffix(strings.TrimSpace(line), " bypass")
		pods = append(pods, p)
	}
	return pods
}

func parseLimits(t *testing.T, text string) Limits {
	l := plenty
	for _, word := range strings.Fields(text) {
		name, number, _ := strings.Cut(word, "=")
		field := map[string]*int{"pods": &l.Pods, "services": &l.Services, "splits": &l.Splits,
			"clusters": &l.Clusters, "endpoints": &l.Endpoints, "members": &l.Members}[name]
		if _, err := fmt.Sscan(number, field); err != nil {
			t.Fatalf("limit %q: %v", word, err)
		}
	}
	return l
}

// colliding reads lines "kind name = othername" and gives both the same id.
func colliding(text string) hasher {
	same := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 {
			same[f[0]+f[1]] = f[3]
		}
	}
	return func(kind, name string) uint64 {
		if other, ok := same[kind+name]; ok {
			name = other
		}
		return id(kind, name)
	}
}

func indexText(x *Index) string {
	var b strings.Builder
	for _, p := range x.Ports {
		fmt.Fprintf(&b, "%s:%d/%s %q route=%q affinity=%d addresses=%v", p.Resource, p.Port, p.Protocol, p.PortName,
			p.Route, p.AffinitySeconds, p.Addresses)
		if p.Held {
			b.WriteString(" held")
		}
		b.WriteByte('\n')
		for _, be := range p.Backends {
			fmt.Fprintf(&b, "  %s cluster=%q weight=%d share=%.4g problem=%q\n", be.Backend, be.Cluster, be.Weight, be.Share, be.Problem)
			for _, id := range be.IDs {
				for _, e := range x.Endpoints(id) {
					fmt.Fprintf(&b, "    %s used=%v\n", e.Address, e.Used)
				}
			}
		}
	}
	return b.String()
}

// The index answers for every id in the contents, with the name it came from.
func TestIndexNames(t *testing.T) {
	s, err := statetest.Parse(`
service shop/cart 10.96.0.1,fd00::1
  port http 80/tcp
    9 shop/cart/80/tcp shop/cart:80
    1 - shop/gone:80
service shop/cart@web 10.96.0.1
  port http 80/tcp
    1 shop/cart/80/tcp shop/cart:80
cluster shop/cart/80/tcp
  10.1.0.1:8080
`)
	if err != nil {
		t.Fatal(err)
	}
	pods := []Pod{{Namespace: "bank", Name: "p", Netns: 1}}
	c, x, problems := Build(s, pods, plenty, nil)
	if len(problems) > 0 {
		t.Errorf("problems %v", problems)
	}
	for key, val := range c.Services {
		p := x.Service(val.Service)
		if p == nil || ServiceID(&state.Service{Namespace: p.Namespace, Name: p.Name, Scope: p.Scope},
			&state.Port{Port: p.Port, Protocol: p.Protocol}, bpf.AddrOf(key.Addr).Is6()) != val.Service {
			t.Errorf("service %s is %+v", Text(key, x.Name), p)
		}
	}
	for id := range c.Clusters {
		if name, v6, ok := x.Cluster(id); !ok || ClusterID(name, v6) != id {
			t.Errorf("cluster %016x is %q", id, name)
		}
	}
	for _, ns := range []string{"web", "bank"} {
		if got := x.Name(ScopeID(ns)); got != ns {
			t.Errorf("scope %s is %q", ns, got)
		}
	}
	if x.Name(12345) != "" || x.Service(12345) != nil || x.Endpoints(12345) != nil {
		t.Error("an unknown id has a name")
	}
}
