package condition

import (
	"fmt"
	"slices"
	"strings"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/translate"
)

// Ref names a resource.
type Ref struct{ Type, Name string }

// Progress is how far a resource has come, in the whole cluster.
type Progress struct {
	Version string
	Needs   []string // nodes that get it
	Has     []string // nodes that have acknowledged this version of it
}

// Carriers are the resources that objects are in force by.
type Carriers struct {
	// byService are those of an object, by the Service that they are about; the
	// zero key is for objects that are about none.
	byService map[string]map[model.Key][]carrier
	refs      map[Ref]bool
}

type carrier struct {
	Ref
	port     uint32 // 0: all
	portName string
}

// Find finds the carriers in a translation.
func Find(s *model.Snapshot, r *translate.Result) *Carriers {
	c := &Carriers{byService: make(map[string]map[model.Key][]carrier), refs: make(map[Ref]bool)}
	clusters := make(map[model.Key][]string) // by Service, of those that policies are for
	for _, p := range s.Policies {
		for _, t := range p.Targets {
			clusters[t.Service] = nil
		}
	}
	for _, resource := range r.Resources {
		ref := Ref{resource.Type, resource.Name}
		switch m := resource.Message.(type) {
		case *xds.Service:
			for _, p := range m.Ports {
				if p.Route != "" {
					c.add(p.Route, model.Key{Namespace: m.Namespace, Name: m.Name}, carrier{ref, p.Port, p.Name})
				}
			}
			if own, ok := strings.CutSuffix(m.Name, translate.ExternalSuffix); ok {
				c.add("ExternalService "+m.Namespace+"/"+own, model.Key{}, carrier{Ref: ref})
			}
		case *xds.Node:
			if s.Mesh != nil {
				c.add(name("MeshConfig", meshConfig), model.Key{}, carrier{Ref: ref})
			}
		case *xds.Cluster:
			part := strings.SplitN(m.Name, "/", 3)
			key := model.Key{Namespace: part[0], Name: part[min(1, len(part)-1)]}
			if _, wanted := clusters[key]; wanted {
				clusters[key] = append(clusters[key], m.Name)
			}
		}
	}
	for _, p := range s.Policies {
		c.addPolicy(s, p, clusters)
	}
	return c
}

// addPolicy adds the clusters of a policy's targets.
func (c *Carriers) addPolicy(s *model.Snapshot, p *model.TrafficPolicy, clusters map[model.Key][]string) {
	for _, t := range p.Targets {
		service := s.Services[t.Service]
		if service == nil {
			continue
		}
		for _, port := range service.Ports {
			if t.PortName != "" && t.PortName != port.Name {
				continue
			}
			cluster := fmt.Sprintf("%s/%d/%s", t.Service, port.Port, port.Protocol)
			if slices.Contains(clusters[t.Service], cluster) {
				c.add(name("TrafficPolicy", p.Key), t.Service, carrier{Ref{xds.ClusterType, cluster}, uint32(port.Port), port.Name})
			}
		}
	}
}

func (c *Carriers) add(object string, service model.Key, by carrier) {
	if c.byService[object] == nil {
		c.byService[object] = make(map[model.Key][]carrier)
	}
	if !slices.Contains(c.byService[object][service], by) {
		c.byService[object][service] = append(c.byService[object][service], by)
	}
	c.refs[by.Ref] = true
}

// Refs returns the resources whose progress matters, sorted.
func (c *Carriers) Refs() []Ref {
	out := make([]Ref, 0, len(c.refs))
	for r := range c.refs {
		out = append(out, r)
	}
	slices.SortFunc(out, compareRefs)
	return out
}

func compareRefs(a, b Ref) int {
	if c := strings.Compare(a.Type, b.Type); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// nodes are those that carry an object with one of its parents.
type nodes struct {
	carried bool // some resource carries it
	needs   int
	waiting []string // of those, the ones that have not acknowledged all of it
}

// count finds out how far an object has come.
func (j *judge) count(object string, parent model.Parent) nodes {
	var n nodes
	behind := make(map[string]bool) // nodes that need it -> lack a part
	for _, by := range j.Carriers.byService[object][parent.Service] {
		if parent.Port != 0 && uint32(parent.Port) != by.port || parent.PortName != "" && parent.PortName != by.portName {
			continue
		}
		n.carried = true
		progress := j.Progress[by.Ref]
		has := make(map[string]bool, len(progress.Has))
		for _, node := range progress.Has {
			has[node] = true
		}
		for _, node := range progress.Needs {
			behind[node] = behind[node] || !has[node]
		}
	}
	n.needs = len(behind)
	for node, lacks := range behind {
		if lacks {
			n.waiting = append(n.waiting, node)
		}
	}
	slices.Sort(n.waiting)
	return n
}

// maxNamed is how many nodes a message names.
const maxNamed = 3

// condition is Programmed.
func (n nodes) condition(accepted Condition) Condition {
	c := Condition{Type: Programmed, Reason: "Pending"}
	if !accepted.True && !n.carried {
		c.Reason, c.Message = accepted.Reason, "it is not in force"
		return c
	}
	c.Message = fmt.Sprintf("%d/%d nodes", n.needs-len(n.waiting), n.needs)
	switch {
	case !n.carried:
		c.Message = "no node has it: nothing that it is about is programmed"
	case len(n.waiting) > 0:
		c.Message += "; waiting for " + strings.Join(n.waiting[:min(len(n.waiting), maxNamed)], ", ")
		if more := len(n.waiting) - maxNamed; more > 0 {
			c.Message += fmt.Sprintf(" and %d more", more)
		}
	default:
		c.True, c.Reason = true, "Programmed"
		if n.needs == 0 {
			c.Message += "; no node has pods that need it"
		}
	}
	return c
}
