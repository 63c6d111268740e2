package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String returns the snapshot as text, sorted, one fact per line. It is the
// form of golden tests (statetest.Parse reads it back) and of debug output:
//
//	node n1 zone=a
//	workload shop/cart-0 10.1.0.4,fd00::4 mesh
//	service shop/cart 10.96.0.10 affinity=30
//	  port http 80/tcp route=TCPRoute/shop/canary
//	    90 shop/cart/80/tcp shop/cart:80
//	    10 - shop/gone:80
//	cluster shop/cart/80/tcp prefer-zone timeout=2s max=100 eject=5,30s,50%
//	  10.1.0.4:8080 node=n1 zone=a workload=shop/cart-0
//	  10.1.1.4:8080 node=n2 zone=b draining
//
// Names hold no spaces; a space inside one (a route's "TCPRoute ns/name") is
// written as "/".
func (s *Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s%s\n", s.Node.Name, attribute("zone", s.Node.Zone))
	for _, name := range slices.Sorted(maps.Keys(s.Workloads)) {
		s.Workloads[name].text(&b)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		s.Services[name].text(&b, name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Clusters)) {
		s.Clusters[name].text(&b, name)
	}
	return b.String()
}

func (w Workload) text(b *strings.Builder) {
	fmt.Fprintf(b, "workload %s/%s %s", w.Namespace, w.Name, list(w.Addresses))
	b.WriteString(attribute("uid", w.UID) + attribute("sa", w.ServiceAccount))
	if w.Mesh {
		b.WriteString(" mesh")
	}
	if w.HostNetwork {
		b.WriteString(" host")
	}
	if w.SocketBypass {
		b.WriteString(" bypass")
	}
	b.WriteByte('\n')
}

func (s Service) text(b *strings.Builder, resource string) {
	fmt.Fprintf(b, "service %s %s", resource, list(s.Addresses))
	if s.AffinitySeconds > 0 {
		fmt.Fprintf(b, " affinity=%d", s.AffinitySeconds)
	}
	b.WriteByte('\n')
	for _, p := range s.Ports {
		fmt.Fprintf(b, "  port %s %d/%s%s\n", dash(p.Name), p.Port, p.Protocol, attribute("route", p.Route))
		for _, w := range p.Clusters {
			fmt.Fprintf(b, "    %d %s %s\n", w.Weight, dash(w.Cluster), dash(w.Backend))
		}
	}
}

func (c Cluster) text(b *strings.Builder, resource string) {
	fmt.Fprintf(b, "cluster %s %s%s\n", resource, c.Locality, c.Policy.text())
	for _, e := range c.Endpoints {
		fmt.Fprintf(b, "  %s%s%s%s", e.Address,
			attribute("node", e.Node), attribute("zone", e.Zone), attribute("workload", e.Workload))
		if e.Draining {
			b.WriteString(" draining")
		}
		b.WriteByte('\n')
	}
}

func (p Policy) text() (text string) {
	if p.ConnectTimeout > 0 {
		text += fmt.Sprintf(" timeout=%s", p.ConnectTimeout)
	}
	if p.MaxConnections > 0 {
		text += fmt.Sprintf(" max=%d", p.MaxConnections)
	}
	if p.MaxFailures > 0 {
		text += fmt.Sprintf(" eject=%d,%s,%d%%", p.MaxFailures, p.Ejection, p.MaxEjectionPercent)
	}
	return text
}

// attribute is " key=value", or nothing for an empty value.
func attribute(key, value string) string {
	if value == "" {
		return ""
	}
	return " " + key + "=" + dash(value)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(s, " ", "/")
}

func list[T fmt.Stringer](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.String()
	}
	return dash(strings.Join(texts, ","))
}
