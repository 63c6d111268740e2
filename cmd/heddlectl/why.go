package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

func (a *app) whyCommand() *cobra.Command {
	var udp, v6 bool
	cmd := &cobra.Command{
		Use:   "why SRC DST[:PORT]",
		Short: "Show what the kernel does with a connection, and what it reads to decide",
		Long: `Show what the kernel does with a connection, and what it reads to decide.

The source is a pod, [NAMESPACE/]NAME. The destination is an address or a service,
[NAMESPACE/]NAME; the port is a number or the name of a service port, and may be
left out for a service with one port. The answer comes from the decision code
that the hooks run, over the live tables. Nothing is sent.

Exit code 1 when the connection is refused.`,
		Example: "  heddlectl why shop/client shop/web:80\n  heddlectl why -n shop client 10.96.0.33:53 --udp",
		Args:    cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return a.completeServices(cmd, nil, part)
			}
			return a.completePods(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q := whyQuestion{dst: args[1], protocol: "tcp", v6: v6}
			if udp {
				q.protocol = "udp"
			}
			var err error
			if q.namespace, q.pod, err = a.split(args[0]); err != nil {
				return err
			}
			why, err := a.why(cmd.Context(), &q)
			if err != nil {
				return err
			}
			if err := a.print(why, func(w io.Writer) { renderWhy(w, why, q.title(&why.Why)) }); err != nil {
				return err
			}
			if strings.EqualFold(why.Verdict, "refuse") {
				return &problem{exitProblem}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&udp, "udp", false, "ask about a UDP datagram instead of a TCP connection")
	cmd.Flags().BoolVarP(&v6, "ipv6", "6", false, "use the service's IPv6 address")
	return cmd
}

type whyQuestion struct {
	namespace, pod string
	dst            string // as it was written
	protocol       string
	v6             bool
	service        string // that dst names, if it does
}

// title is the connection in the words of the question.
func (q *whyQuestion) title(why *admin.Why) string {
	to := why.Destination
	if q.service != "" {
		to = q.service + " (" + to + ")"
	}
	return q.namespace + "/" + q.pod + " -> " + to
}

// whyReport is what `why -o json` prints.
type whyReport struct {
	admin.Why
	Node string `json:"node"`
	// Carrier is the way that the bytes would take; nil: there are none.
	Carrier *carrier `json:"carrier,omitempty"`
}

// why asks the agent of the node that has the pod.
func (a *app) why(ctx context.Context, q *whyQuestion) (*whyReport, error) {
	t, err := a.targetsOf(ctx, q.namespace, q.pod)
	if err != nil {
		return nil, err
	}
	agent, pods, err := agentOf(ctx, t, q.namespace, q.pod)
	if err != nil {
		return nil, err
	}
	to, err := a.resolve(ctx, t, agent.Agent, q)
	if err != nil {
		return nil, err
	}
	why, err := agent.Why(ctx, admin.WhyRequest{
		Source:  q.namespace + "/" + q.pod,
		Address: to.Addr().String(), Port: to.Port(), Protocol: q.protocol,
	})
	if err != nil {
		return nil, err
	}
	status, err := agent.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &whyReport{*why, status.Node, carry(why, q, to, pods, status.Mechanisms)}, nil
}

// targetsOf narrows the targets to the node that has a pod, where the cluster
// knows it.
func (a *app) targetsOf(ctx context.Context, namespace, name string) (*targets, error) {
	inCluster, err := a.onCluster()
	if err != nil {
		return nil, err
	}
	if !inCluster || a.node != "" {
		return a.targets(ctx)
	}
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	pod, err := c.Pod(ctx, namespace, name)
	switch {
	case err != nil:
		return nil, err
	case pod.HostNetwork:
		return nil, fmt.Errorf("pod %s/%s is on the host network: its connections are not distinguished from the node's own and never captured", namespace, name)
	case pod.Node == "":
		return nil, fmt.Errorf("pod %s/%s is on no node yet: %s", namespace, name, pod.Down)
	}
	agent, err := c.AgentOn(ctx, pod.Node)
	if err != nil {
		return nil, err
	}
	return &targets{agents: []target{agentIn(c, agent)}, cluster: c}, nil
}

// agentOf finds the agent that a pod was announced to, and all pods it knows.
func agentOf(ctx context.Context, t *targets, namespace, name string) (*target, []admin.Pod, error) {
	var errs []error
	for i := range t.agents {
		agent := &t.agents[i]
		if _, err := agent.name(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		pods, err := agent.Pods(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.ContainsFunc(pods, func(p admin.Pod) bool { return p.Namespace == namespace && p.Name == name }) {
			return agent, pods, nil
		}
	}
	if err := few(errs); err != nil {
		return nil, nil, err
	}
	return nil, nil, fmt.Errorf("no agent knows a pod %s/%s (heddlectl get pods): hostNetwork pods are never captured, nor is what was not announced", namespace, name)
}

// resolve turns the destination into an address and a port.
func (a *app) resolve(ctx context.Context, t *targets, agent *client.Agent, q *whyQuestion) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(q.dst); err == nil {
		return to, nil
	}
	if _, err := netip.ParseAddr(q.dst); err == nil {
		return netip.AddrPort{}, usage{fmt.Errorf("%s: an address needs a port (%s)", q.dst, "ADDRESS:PORT, [IPV6]:PORT")}
	}
	ref, port, _ := strings.Cut(q.dst, ":")
	namespace, name, err := a.split(ref)
	if err != nil {
		return netip.AddrPort{}, err
	}
	services, err := servicePorts(ctx, t, agent, namespace, name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	to, err := pickPort(services, namespace, name, port, q)
	if err == nil {
		q.service = namespace + "/" + name
	}
	return to, err
}

// servicePorts are the ports of a service: as the API server has them, so that
// a service that did not reach the node is found too; without one, as the
// node's kernel does.
func servicePorts(ctx context.Context, t *targets, agent *client.Agent, namespace, name string) ([]admin.Service, error) {
	if t.cluster == nil {
		return agent.Services(ctx)
	}
	s, err := t.cluster.Service(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if len(s.Addresses) == 0 {
		return nil, nil // headless: left to the platform
	}
	var out []admin.Service
	for _, p := range s.Ports {
		out = append(out, admin.Service{Namespace: namespace, Name: name, Port: p.Port, PortName: p.Name, Protocol: p.Protocol, Addresses: s.Addresses})
	}
	return out, nil
}

// pickPort finds the port of a service that was asked for: by number, by name,
// or because there is only one.
func pickPort(services []admin.Service, namespace, name, port string, q *whyQuestion) (netip.AddrPort, error) {
	var known []string
	var found []admin.Service
	for _, s := range services {
		if s.Namespace != namespace || s.Name != name || s.Scope != "" {
			continue
		}
		known = append(known, portName(&s))
		named := port == "" || port == strconv.Itoa(int(s.Port)) || port == s.PortName
		if named && strings.EqualFold(s.Protocol, q.protocol) {
			found = append(found, s)
		}
	}
	switch {
	case len(known) == 0:
		return netip.AddrPort{}, fmt.Errorf("no service %s/%s on the pod's node (heddlectl get routes): it does not exist, or has no cluster IP", namespace, name)
	case len(found) == 0:
		// A number that is no port of the service is a fair question: the
		// kernel leaves such a connection alone. It needs an address to ask.
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return netip.AddrPort{}, fmt.Errorf("service %s/%s has no %s port %s, only %s", namespace, name, q.protocol, port, strings.Join(known, ", "))
		}
		i := slices.IndexFunc(services, func(s admin.Service) bool { return s.Namespace == namespace && s.Name == name })
		return pickAddress(&services[i], uint16(number), q.v6)
	case len(found) > 1:
		return netip.AddrPort{}, usage{fmt.Errorf("service %s/%s has several ports, name one: %s", namespace, name, strings.Join(known, ", "))}
	}
	return pickAddress(&found[0], found[0].Port, q.v6)
}

func pickAddress(s *admin.Service, port uint16, v6 bool) (netip.AddrPort, error) {
	for _, text := range s.Addresses {
		addr, err := netip.ParseAddr(text)
		if err == nil && (!v6 || addr.Is6()) {
			return netip.AddrPortFrom(addr, port), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("service %s/%s has no IPv6 address, only %s", s.Namespace, s.Name, strings.Join(s.Addresses, ", "))
}

func renderWhy(w io.Writer, why *whyReport, title string) {
	fmt.Fprintf(w, "%s, on %s\n", title, why.Node)
	fmt.Fprintf(w, "%s %s: %s\n", strings.ToUpper(why.Verdict), why.Reason, why.Explanation)
	if why.Service != "" {
		line(w, "service", "%s", why.Service)
		line(w, "route", "%s", orDash(why.Route))
	}
	if why.Endpoint != "" {
		line(w, "endpoint", "%s (of this draw, another may differ)", why.Endpoint)
	}
	if c := why.Carrier; c != nil {
		line(w, "carried", "by %s: %s", c.By, c.Because)
	}
	if len(why.Backends) > 0 {
		fmt.Fprintln(w)
		t := &table{indent: "  "}
		t.row("BACKEND", "WEIGHT", "SHARE", "OBSERVED", "ENDPOINTS")
		for _, b := range why.Backends {
			endpoints := addresses(b.Endpoints)
			if b.Problem != "" {
				endpoints = "refused: " + b.Problem
			}
			t.row(b.Backend, fmt.Sprint(b.Weight), percent(b.Share), percent(b.Observed), endpoints)
		}
		t.write(w)
	}
	fmt.Fprintln(w)
	t := &table{indent: "  "}
	t.row("READ", "KEY", "VALUE")
	for _, r := range why.Read {
		t.row(r.Map, r.Key, r.Value)
	}
	t.write(w)
}
