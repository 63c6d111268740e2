package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"heddle.io/heddle/api/xds"
)

// String returns the result as text, one fact per line. It is the form of the
// golden tests:
//
//	node n1 zone=a -> node:n1
//	cluster shop/cart/80/tcp PREFER_SAME_ZONE -> mesh
//	  10.1.0.4:8080 node=n1 zone=a workload=shop/cart-0
//	service shop/cart 10.96.0.10 affinity=30 -> mesh
//	  80/tcp http by TCPRoute shop/canary
//	    90 shop/cart/80/tcp
//	    10 refused, shop/gone:80
//	workload shop/cart-0 10.1.0.4 mesh -> node:n1
//	n1 is in mesh node:n1 ns:shop
//	problem TCPRoute shop/canary BackendNotFound: backendRef shop/gone:80: …
func (r *Result) String() string {
	var out strings.Builder
	for _, resource := range r.Resources {
		first, rest, _ := strings.Cut(text(resource.Message), "\n")
		fmt.Fprintf(&out, "%s -> %s\n%s", strings.Replace(first, "NAME", resource.Name, 1), strings.Join(resource.Audiences, " "), rest)
	}
	for _, node := range slices.Sorted(maps.Keys(r.Audiences)) {
		fmt.Fprintf(&out, "%s is in %s\n", node, strings.Join(r.Audiences[node], " "))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&out, "problem %s %s: %s\n", p.Object, p.Reason, p.Detail)
	}
	return out.String()
}

// text writes one resource; NAME stands for its name.
func text(m proto.Message) string {
	switch m := m.(type) {
	case *xds.Node:
		return nodeText(m)
	case *xds.Workload:
		return workloadText(m)
	case *xds.Cluster:
		return clusterText(m)
	case *xds.Service:
		return serviceText(m)
	}
	return fmt.Sprintf("%T NAME\n", m)
}

func nodeText(m *xds.Node) string {
	line := "node NAME" + attribute("zone", m.Zone)
	if start := m.PodStart; start != nil {
		line += " start=" + start.WhenAgentDown.String() + attribute("exempt", strings.Join(start.ExemptNamespaces, ","))
	}
	return line + "\n"
}

func workloadText(m *xds.Workload) string {
	line := "workload NAME" + addresses(m.Addresses) + attribute("uid", m.Uid) + attribute("account", m.ServiceAccount)
	if m.Mesh {
		line += " mesh"
	}
	if m.HostNetwork {
		line += " host"
	}
	if m.SocketBypass {
		line += " bypass"
	}
	return line + "\n"
}

func clusterText(m *xds.Cluster) string {
	var out strings.Builder
	out.WriteString("cluster NAME")
	if m.Locality != xds.Locality_LOCALITY_ANY {
		out.WriteString(" " + m.Locality.String())
	}
	out.WriteString("\n")
	for _, e := range m.Endpoints {
		address, _ := netip.AddrFromSlice(e.Address)
		fmt.Fprintf(&out, "  %s%s%s%s", netip.AddrPortFrom(address, uint16(e.Port)),
			attribute("node", e.Node), attribute("zone", e.Zone), attribute("workload", e.Workload))
		if e.Health == xds.Health_DRAINING {
			out.WriteString(" draining")
		}
		out.WriteString("\n")
	}
	return out.String()
}

func serviceText(m *xds.Service) string {
	var out strings.Builder
	out.WriteString("service NAME" + addresses(m.Addresses))
	if m.AffinitySeconds > 0 {
		fmt.Fprintf(&out, " affinity=%d", m.AffinitySeconds)
	}
	out.WriteString("\n")
	for _, p := range m.Ports {
		fmt.Fprintf(&out, "  %d/%s", p.Port, strings.ToLower(p.Protocol.String()))
		if p.Name != "" {
			out.WriteString(" " + p.Name)
		}
		if p.Route != "" {
			out.WriteString(" by " + p.Route)
		}
		out.WriteString("\n")
		for _, c := range p.Clusters {
			if c.Cluster == "" {
				fmt.Fprintf(&out, "    %d refused, %s\n", c.Weight, c.Backend)
				continue
			}
			fmt.Fprintf(&out, "    %d %s\n", c.Weight, c.Cluster)
		}
	}
	return out.String()
}

func attribute(key, value string) string {
	if value == "" {
		return ""
	}
	return " " + key + "=" + value
}

func addresses(list [][]byte) string {
	var texts []string
	for _, b := range list {
		if a, ok := netip.AddrFromSlice(b); ok {
			texts = append(texts, a.String())
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return " " + strings.Join(texts, ",")
}
