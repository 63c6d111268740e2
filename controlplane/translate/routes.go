package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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

// attach lets the routes take their places: TLSRoutes before TCPRoutes (GEP-1294),
// of each kind the oldest first. For each frontend the first one decides alone,
// others are told that they lost.
func (b *build) attach() attachments {
	taken := attachments{make(map[frontend]*route), make(map[model.Key]map[string]bool)}
	for _, r := range slices.Concat(byAge(b.TLSRoutes), byAge(b.Routes)) {
		if len(r.Parents) == 0 {
			continue // all its parents belong to others
		}
		used := false
		for _, p := range r.Parents {
			for _, f := range b.frontends(r, p) {
				if winner := taken.routes[f]; winner != nil && winner != r {
					b.parentProblem(r.Object(), p, "Conflicted", fmt.Sprintf("%s already decides about port %d of Service %s%s: %s; remove one of them, or point them at different ports",
						winner.Object(), f.port, f.service, forClients(f.scope), whyFirst(winner, r)))
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

func whyFirst(winner, loser *route) string {
	if winner.Kind != loser.Kind {
		return fmt.Sprintf("a %s goes before a %s", winner.Kind, loser.Kind)
	}
	return "it is older, or first by name"
}

func byAge(routes map[model.Key]*model.Route) []*route {
	var out []*route
	for _, r := range routes {
		out = append(out, &route{r})
	}
	slices.SortFunc(out, func(x, y *route) int {
		return cmp.Or(x.Created.Compare(y.Created), x.Key.Compare(y.Key))
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
		b.parentProblem(r.Object(), p, "NoMatchingParent", fmt.Sprintf("there is no Service %s", p.Service))
		return nil
	case s.Kind != model.ClusterIP:
		b.parentProblem(r.Object(), p, "NoMatchingParent", fmt.Sprintf("Service %s is %s and has no address that connections could be recognised by; attach the route to a ClusterIP Service", s.Key, s.Kind))
		return nil
	}
	if !selectsAll(r.Route, s.Key) {
		b.parentProblem(r.Object(), p, "UnsupportedValue", fmt.Sprintf("none of its hostnames is a name of Service %s, and choosing connections by another server name is not programmed: connections go as if the route was not there; name the Service's own host, %s.%s.svc, or use a TCPRoute", s.Key, s.Name, s.Namespace))
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
		b.parentProblem(r.Object(), p, "NoMatchingParent", fmt.Sprintf("Service %s has no TCP port%s", s.Key, describePort(p)))
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

// selectsAll reports whether a route is for all connections to a Service. A
// TLSRoute is when it has no hostnames, or one that clients of the Service use:
// they all say the Service's own name, and there is one rule to follow.
func selectsAll(r *model.Route, service model.Key) bool {
	if len(r.Hostnames) == 0 {
		return true
	}
	own := service.Name + "." + service.Namespace
	for _, h := range r.Hostnames {
		if domain, wildcard := strings.CutPrefix(h, "*."); wildcard {
			h = service.Name + "." + domain
		}
		if h == service.Name || h == own || h == own+".svc" || strings.HasPrefix(h, own+".svc.") {
			return true
		}
	}
	return false
}

// unprogrammed reports the routes of kinds that nodes cannot do yet.
func (b *build) unprogrammed() {
	for _, r := range slices.Concat(byAge(b.HTTPRoutes), byAge(b.GRPCRoutes)) {
		if len(r.Parents) > 0 {
			b.problem(r.Object(), "NotProgrammed", fmt.Sprintf("nodes do not route %s requests yet, so it has no effect and connections go by the Service, or by its TCPRoute or TLSRoute; to split connections by weight, use a TCPRoute", strings.TrimSuffix(r.Kind.String(), "Route")))
		}
	}
}

// checkRoute reports what of a route in effect cannot be done.
func (b *build) checkRoute(r *route) {
	if r.Rules > 1 {
		b.problem(r.Object(), "UnsupportedValue", fmt.Sprintf("it has %d rules; a connection has nothing to choose one by, so only the first is used: put all backendRefs into it", r.Rules))
	}
	producer := slices.ContainsFunc(r.Parents, func(p model.Parent) bool { return p.Service.Namespace == r.Namespace })
	for _, backend := range r.Backends {
		_, _, reason, detail := b.resolve(backend)
		if reason == "" && producer && !b.permitted(r, backend) {
			reason, detail = "RefNotPermitted", notPermitted(r, backend)
		}
		if reason != "" {
			b.problem(r.Object(), reason, fmt.Sprintf("backendRef %s: %s; its share of the connections is refused", describeBackend(backend), detail))
		}
	}
}

// permitted reports whether a producer route, which decides about other people's
// connections, may send them to a Service of another namespace: that namespace
// has to say so, by a ReferenceGrant. A consumer route needs none: it is for the
// clients of its own namespace, which can connect to that Service anyway.
func (b *build) permitted(r *route, backend model.Backend) bool {
	if backend.Service.Namespace == r.Namespace {
		return true
	}
	from := model.GrantFrom{Kind: r.Kind.String(), Namespace: r.Namespace}
	for _, g := range b.Grants {
		if g.Namespace == backend.Service.Namespace && slices.Contains(g.From, from) && (g.Services == nil || slices.Contains(g.Services, backend.Service.Name)) {
			return true
		}
	}
	return false
}

func notPermitted(r *route, backend model.Backend) string {
	return fmt.Sprintf("it is in another namespace, and no ReferenceGrant there permits a %s of namespace %s to name it: make one in namespace %s", r.Kind, r.Namespace, backend.Service.Namespace)
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

// backends returns the shares that a route gives for a Service of the parent
// namespace. A backend that does not exist
// keeps its share, and nobody gets it: the others' shares stay what they are.
func (b *build) backends(r *route, parent, audience string) []*xds.WeightedCluster {
	var out []*xds.WeightedCluster
	for _, backend := range r.Backends {
		share := &xds.WeightedCluster{Weight: backend.Weight, Backend: describeBackend(backend)}
		s, port, reason, _ := b.resolve(backend)
		if reason == "" && (parent != r.Namespace || b.permitted(r, backend)) {
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
