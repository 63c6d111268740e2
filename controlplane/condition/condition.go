package condition

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"heddle.io/heddle/controlplane/model"
)

// Types of conditions, in the order in which they are written.
const (
	Accepted     = "Accepted"
	ResolvedRefs = "ResolvedRefs"
	Programmed   = "Programmed"
)

// maxMessage bounds a message, in bytes. Kubernetes takes 32 KiB.
const maxMessage = 1024

// Condition is one of an object, or of an object with one of its parents.
type Condition struct {
	Type, Reason, Message string
	True                  bool
}

// Parent is a Service that an object is about, with the conditions of both.
type Parent struct {
	model.Parent
	Conditions []Condition
}

// Object is the status of an object. Parents are set for routes and policies,
// Conditions for the others.
type Object struct {
	Kind       string
	Key        model.Key // no namespace: of the cluster
	Generation int64
	Parents    []Parent
	Conditions []Condition
	// Refused: the newest version of the object was not taken; that of Generation,
	// or none, is in force.
	Refused bool
}

// Name returns "TCPRoute shop/canary".
func (o *Object) Name() string { return name(o.Kind, o.Key) }

func name(kind string, key model.Key) string {
	if key.Namespace == "" {
		return kind + " " + key.Name
	}
	return kind + " " + key.String()
}

// meshConfig is the only one of the cluster.
var meshConfig = model.Key{Name: "default"}

// Input is what the status of objects follows from.
type Input struct {
	Snapshot *model.Snapshot
	Problems []model.Problem // all of them
	Carriers *Carriers
	Progress map[Ref]Progress
}

// judge collects what is known of each object.
type judge struct {
	Input
	problems map[string][]model.Problem // by object
}

// Build returns the status of every object that has one, by kind and name.
func Build(in Input) []*Object {
	j := &judge{Input: in, problems: make(map[string][]model.Problem)}
	for _, p := range in.Problems {
		j.problems[p.Object] = append(j.problems[p.Object], p)
	}
	var out []*Object
	s := in.Snapshot
	for _, routes := range []map[model.Key]*model.Route{s.Routes, s.TLSRoutes, s.HTTPRoutes, s.GRPCRoutes} {
		for _, r := range routes {
			out = append(out, j.route(r))
		}
	}
	for _, p := range s.Policies {
		out = append(out, j.policy(p))
	}
	for _, x := range s.Externals {
		out = append(out, j.plain("ExternalService", x.Key, x.Generation))
	}
	if s.Mesh != nil {
		out = append(out, j.plain("MeshConfig", meshConfig, s.Mesh.Generation))
	}
	out = append(out, j.refused(out)...)
	slices.SortFunc(out, func(a, b *Object) int { return cmp.Or(strings.Compare(a.Kind, b.Kind), a.Key.Compare(b.Key)) })
	return out
}

func (j *judge) route(r *model.Route) *Object {
	o := &Object{Kind: r.Kind.String(), Key: r.Key, Generation: r.Generation, Refused: j.invalid(r.Object())}
	for _, p := range r.Parents {
		o.Parents = append(o.Parents, Parent{p, j.conditions(o.Name(), p, true)})
	}
	return o
}

func (j *judge) policy(p *model.TrafficPolicy) *Object {
	o := &Object{Kind: "TrafficPolicy", Key: p.Key, Generation: p.Generation}
	o.Refused = j.invalid(o.Name())
	for _, t := range p.Targets {
		parent := model.Parent{Service: t.Service, PortName: t.PortName}
		o.Parents = append(o.Parents, Parent{parent, j.conditions(o.Name(), parent, false)})
	}
	return o
}

func (j *judge) plain(kind string, key model.Key, generation int64) *Object {
	o := &Object{Kind: kind, Key: key, Generation: generation}
	o.Refused = j.invalid(o.Name())
	o.Conditions = j.conditions(o.Name(), model.Parent{}, false)
	return o
}

// Reasons of problems by the condition that they are about. Others do not keep an
// object from being in force.
var (
	refReasons    = []string{"BackendNotFound", "InvalidKind", "RefNotPermitted"}
	acceptReasons = []string{"Invalid", "NoMatchingParent", "TargetNotFound", "Conflicted", "UnsupportedValue", "NotProgrammed", "AddressInUse"}
)

// invalid reports whether the newest version of an object was refused.
func (j *judge) invalid(object string) bool {
	return slices.ContainsFunc(j.problems[object], func(p model.Problem) bool { return p.Reason == "Invalid" })
}

// conditions are those of an object with one of its parents.
func (j *judge) conditions(object string, parent model.Parent, refs bool) []Condition {
	nodes := j.count(object, parent)
	accepted := Condition{Type: Accepted, True: true, Reason: "Accepted"}
	resolved := Condition{Type: ResolvedRefs, True: true, Reason: "ResolvedRefs"}
	for _, p := range j.problems[object] {
		if p.Parent != (model.Parent{}) && p.Parent != parent {
			continue
		}
		switch {
		case slices.Contains(refReasons, p.Reason):
			resolved.fault(p, true)
		case slices.Contains(acceptReasons, p.Reason):
			// What is in force in part was accepted; the message says which part
			// was not.
			accepted.fault(p, p.Reason == "Invalid" || !nodes.carried)
		}
	}
	out := []Condition{accepted}
	if refs {
		out = append(out, resolved)
	}
	return append(out, nodes.condition(accepted))
}

// fault takes a problem into a condition, which is then false if it has to be.
func (c *Condition) fault(p model.Problem, isFalse bool) {
	if isFalse && c.True {
		c.True, c.Reason = false, p.Reason
	}
	if c.Message != "" {
		c.Message += "; "
	}
	c.Message += p.Detail
	if len(c.Message) > maxMessage {
		c.Message = strings.ToValidUTF8(c.Message[:maxMessage-3], "") + "…"
	}
}

// refused are the objects of which no version was ever taken.
func (j *judge) refused(known []*Object) []*Object {
	seen := make(map[string]bool, len(known))
	for _, o := range known {
		seen[o.Name()] = true
	}
	var out []*Object
	for _, object := range slices.Sorted(maps.Keys(j.problems)) {
		kind, rest, _ := strings.Cut(object, " ")
		if seen[object] || !j.invalid(object) || !slices.Contains(kinds, kind) {
			continue
		}
		namespace, name, found := strings.Cut(rest, "/")
		if !found {
			namespace, name = "", rest
		}
		o := &Object{Kind: kind, Key: model.Key{Namespace: namespace, Name: name}, Refused: true}
		o.Conditions = j.conditions(object, model.Parent{}, strings.HasSuffix(kind, "Route"))
		out = append(out, o)
	}
	return out
}

// kinds are those that have a status.
var kinds = []string{"TCPRoute", "TLSRoute", "HTTPRoute", "GRPCRoute", "TrafficPolicy", "ExternalService", "MeshConfig"}

// String returns a line for each condition.
func (o *Object) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s generation=%d", o.Name(), o.Generation)
	if o.Refused {
		out.WriteString(" refused")
	}
	out.WriteString("\n")
	write := func(indent string, conditions []Condition) {
		for _, c := range conditions {
			fmt.Fprintf(&out, "%s%s=%t %s", indent, c.Type, c.True, c.Reason)
			if c.Message != "" {
				fmt.Fprintf(&out, ": %s", c.Message)
			}
			out.WriteString("\n")
		}
	}
	write("  ", o.Conditions)
	for _, p := range o.Parents {
		fmt.Fprintf(&out, "  parent %s", p.Service)
		if p.Port != 0 {
			fmt.Fprintf(&out, " port=%d", p.Port)
		}
		if p.PortName != "" {
			fmt.Fprintf(&out, " name=%s", p.PortName)
		}
		out.WriteString("\n")
		write("    ", p.Conditions)
	}
	return out.String()
}
