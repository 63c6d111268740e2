package plane

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/source"
)

// A cause identifies a problem over time: its detail may change while it lasts.
type cause struct{ object, reason string }

// maxLogged bounds how many problems one change writes to the log.
const maxLogged = 20

// record keeps what the status shows, and logs problems that come and go.
func (p *Plane) record(u source.Update, translated []model.Problem, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded.Add(1)
	p.mu.source, p.mu.translate = u, translated
	since := make(map[cause]time.Time)
	logged := 0
	for _, problem := range slices.Concat(u.Problems, translated) {
		c := cause{problem.Object, problem.Reason}
		first, known := p.mu.since[c]
		if !known {
			first = now
			if logged++; logged <= maxLogged {
				p.log.Warn("problem", "object", problem.Object, "reason", problem.Reason, "detail", problem.Detail)
			}
		}
		since[c] = first
	}
	if logged > maxLogged {
		p.log.Warn("more problems; heddlectl status shows them", "more", logged-maxLogged)
	}
	solved := 0
	for c := range p.mu.since {
		if _, still := since[c]; !still {
			if solved++; solved <= maxLogged {
				p.log.Info("problem is gone", "object", c.object, "reason", c.reason)
			}
		}
	}
	p.mu.since = since
}

// status is the state of everything.
func (p *Plane) status() admin.ControllerStatus {
	p.mu.Lock()
	u := p.mu.source
	problems := p.problemsLocked()
	p.mu.Unlock()

	totals := p.server.Totals()
	s := admin.ControllerStatus{
		Version: p.c.Version,
		Started: p.started,
		Source:  p.sourceStatus(),
		Objects: objects(u.Snapshot),
		Nodes:   []admin.ConnectedNode{},
		Batches: totals.Batches,
		Encoded: totals.Encoded,
		Sent:    totals.Sent,
	}
	if u.Err != nil {
		s.Source.Error = u.Err.Error()
	}
	for _, n := range p.server.Nodes() {
		node := admin.ConnectedNode{Node: n.Name, Connected: n.Connected, Resources: n.Resources, Acks: n.Acks, Nacks: n.Nacks, Bytes: n.Bytes}
		if n.LastNack != nil {
			node.LastNack = &admin.Nack{Time: n.LastNack.Time, Type: typeName(n.LastNack.Type), Error: n.LastNack.Error}
		}
		s.Nodes = append(s.Nodes, node)
		if len(n.Refused) > 0 {
			problems = append(problems, refusal(n.Name, n.Refused, node.LastNack))
		}
	}
	if p.c.TLSErr != nil {
		if err := p.c.TLSErr(); err != nil {
			problems = append(problems, admin.Problem{Object: "certificate", Reason: "CertificateUnusable",
				Detail: fmt.Sprintf("%v; the one before stays in use until it expires", err)})
		}
	}
	slices.SortStableFunc(problems, func(a, b admin.Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Reason, b.Reason))
	})
	s.Problems = problems
	return s
}

func (p *Plane) sourceStatus() admin.Source {
	if p.c.Source == Kubernetes {
		return admin.Source{Kind: Kubernetes, Path: p.c.Cluster.API.Host}
	}
	return admin.Source{Kind: "dir", Path: strings.TrimPrefix(p.c.Source, "dir:")}
}

// ready tells why nodes cannot be served yet; nil: they can.
func (p *Plane) ready() error {
	p.mu.Lock()
	serving := p.mu.result != nil
	p.mu.Unlock()
	switch {
	case !serving:
		return errors.New("the objects were not read yet")
	case p.cluster != nil && !p.cluster.authority.Ready():
		return errors.New("the controller has no certificate yet")
	}
	return nil
}

// problemsLocked returns the problems of objects, with the time since when each
// is there.
func (p *Plane) problemsLocked() []admin.Problem {
	var out []admin.Problem
	all := slices.Concat(p.mu.source.Problems, p.mu.translate)
	if p.cluster != nil {
		all = append(all, p.cluster.problems()...)
	}
	for _, problem := range all {
		out = append(out, admin.Problem{
			Object: problem.Object, Reason: problem.Reason, Detail: problem.Detail,
			Since: p.mu.since[cause{problem.Object, problem.Reason}],
		})
	}
	return out
}

func refusal(node string, types []string, last *admin.Nack) admin.Problem {
	var names []string
	for _, t := range types {
		names = append(names, typeName(t))
	}
	return admin.Problem{
		Object: "Node " + node, Reason: "ResourceRefused", Since: last.Time,
		Detail: fmt.Sprintf("it keeps its last good version of some resources of type %s: %s", strings.Join(names, ", "), last.Error),
	}
}

// typeName is the last part of a type URL: "Service".
func typeName(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// objects counts what is in force by kind. All kinds are listed, also at zero.
func objects(s *model.Snapshot) []admin.Count {
	if s == nil {
		s = &model.Snapshot{}
	}
	return []admin.Count{
		{Name: "Namespace", Count: uint64(len(s.Namespaces))},
		{Name: "Node", Count: uint64(len(s.Nodes))},
		{Name: "Pod", Count: uint64(len(s.Pods))},
		{Name: "Service", Count: uint64(len(s.Services))},
		{Name: "EndpointSlice", Count: uint64(len(s.Slices))},
		{Name: "TCPRoute", Count: uint64(len(s.Routes))},
		{Name: "TLSRoute", Count: uint64(len(s.TLSRoutes))},
		{Name: "HTTPRoute", Count: uint64(len(s.HTTPRoutes))},
		{Name: "GRPCRoute", Count: uint64(len(s.GRPCRoutes))},
		{Name: "ReferenceGrant", Count: uint64(len(s.Grants))},
		{Name: "TrafficPolicy", Count: uint64(len(s.Policies))},
		{Name: "ExternalService", Count: uint64(len(s.Externals))},
	}
}
