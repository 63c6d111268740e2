package translate

import (
	"fmt"
	"slices"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// frontend is a TCP port of a Service, as the clients of one namespace see it
// (GEP-1294: a route of another namespace is for the clients of that namespace
// only, and wins over the Service's own).
type frontend struct {
	service model.Key
	scope   string // namespace of the clients; empty: all
	port    uint16
}

// attachments are the routes in effect.
type attachments struct {
	routes map[frontend]*route
	scopes map[model.Key]map[string]bool // of each Service that has routes
}

// route is a route in effect.
type route struct {
	*model.Route
}

func (r *route) object() string { return "TCPRoute " + r.Key.String() }

// attach lets the routes take their places, the oldest first: for each frontend
// the first one decides alone, others are told that they lost.
func (b *build) attach() attachments {
	taken := attachments{make(map[frontend]*route), make(map[model.Key]map[string]bool)}
	for _, r := range b.routesByAge() {
		if len(r.Parents) == 0 {
			continue // all its parents belong to others
		}
		used := false
		for _, p := range r.Parents {
			for _, f := range b.frontends(r, p) {
				if winner := taken.routes[f]; winner != nil && winner != r {
					b.problem(r.object(), "Conflicted", fmt.Sprintf("%s already decides about port %d of Service %s%s: it is older, or first by name; remove one of them, or point them at different ports",
						winner.object(), f.port, f.service, forClients(f.scope)))
					continue
				}
				taken.add(f, r)
				used = true
			}
		}
		if used {
			b.checkRoute(r)
		}
	}
	return taken
}

func (a attachments) add(f frontend, r *route) {
	a.routes[f] = r
	if a.scopes[f.service] == nil {
		a.scopes[f.service] = make(map[string]bool)
	}
	a.scopes[f.service][f.scope] = true
}

func (b *build) routesByAge() []*route {
	var out []*route
	for _, r := range b.Routes {
		out = append(out, &route{r})
	}
	slices.SortFunc(out, func(x, y *route) int {
		if c := x.Created.Compare(y.Created); c != 0 {
			return c
		}
		return x.Key.Compare(y.Key)
	})
	return out
}

func forClients(scope string) string {
	if scope == "" {
		return ""
	}
	return " for clients of namespace " + scope
}

// frontends returns the ports that a parent reference means, or none and a
// problem.
func (b *build) frontends(r *route, p model.Parent) []frontend {
	s := b.Services[p.Service]
	switch {
	case s == nil:
		b.problem(r.object(), "NoMatchingParent", fmt.Sprintf("there is no Service %s", p.Service))
		return nil
	case s.Kind != model.ClusterIP:
		b.problem(r.object(), "NoMatchingParent", fmt.Sprintf("Service %s is %s and has no address that connections could be recognised by; attach the route to a ClusterIP Service", s.Key, s.Kind))
		return nil
	}
	scope := r.Namespace
	if scope == s.Namespace {
		scope = ""
	}
	var out []frontend
	for _, port := range s.Ports {
		if port.Protocol == model.TCP && (p.Port == 0 || p.Port == port.Port) && (p.PortName == "" || p.PortName == port.Name) {
			out = append(out, frontend{s.Key, scope, port.Port})
		}
	}
	if len(out) == 0 {
		b.problem(r.object(), "NoMatchingParent", fmt.Sprintf("Service %s has no TCP port%s", s.Key, describePort(p)))
	}
	return out
}

func describePort(p model.Parent) string {
	switch {
	case p.Port != 0 && p.PortName != "":
		return fmt.Sprintf(" %d that is named %s", p.Port, p.PortName)
	case p.Port != 0:
		return fmt.Sprintf(" %d", p.Port)
	case p.PortName != "":
		return " named " + p.PortName
	}
	return ""
}

// checkRoute reports what of a route in effect cannot be done.
func (b *build) checkRoute(r *route) {
	if r.Rules > 1 {
		b.problem(r.object(), "UnsupportedValue", fmt.Sprintf("it has %d rules; a connection has nothing to choose one by, so only the first is used: put all backendRefs into it", r.Rules))
	}
	for _, backend := range r.Backends {
		if _, _, reason, detail := b.resolve(backend); reason != "" {
			b.problem(r.object(), reason, fmt.Sprintf("backendRef %s: %s; its share of the connections is refused", describeBackend(backend), detail))
		}
	}
}

func describeBackend(backend model.Backend) string {
	text := backend.Service.String()
	if backend.Port != 0 {
		text = backendText(backend.Service, backend.Port)
	}
	if backend.Kind != "" {
		text = backend.Kind + " " + text
	}
	return text
}

// backends returns the shares that a route gives. A backend that does not exist
// keeps its share, and nobody gets it: the others' shares stay what they are.
func (b *build) backends(r *route, audience string) []*xds.WeightedCluster {
	var out []*xds.WeightedCluster
	for _, backend := range r.Backends {
		share := &xds.WeightedCluster{Weight: backend.Weight, Backend: describeBackend(backend)}
		if s, port, reason, _ := b.resolve(backend); reason == "" {
			share.Cluster = b.use(s, port, audience)
		}
		out = append(out, share)
	}
	return out
}

// resolve finds the Service port that a backend means. Routes of that Service do
// not matter here: a backend is its endpoints.
func (b *build) resolve(backend model.Backend) (s *model.Service, port model.ServicePort, reason, detail string) {
	if backend.Kind != "" {
		return nil, port, "InvalidKind", "only Services can be backends"
	}
	s = b.Services[backend.Service]
	switch {
	case s == nil:
		return nil, port, "BackendNotFound", "there is no such Service"
	case s.Kind == model.ExternalName:
		return nil, port, "BackendNotFound", "the Service is of type ExternalName and has no endpoints"
	case backend.Port == 0:
		return nil, port, "BackendNotFound", "a port is required"
	}
	for _, p := range s.Ports {
		if p.Port == backend.Port && p.Protocol == model.TCP {
			return s, p, "", ""
		}
	}
	return nil, port, "BackendNotFound", "the Service has no such TCP port"
}
