package main

import (
	"context"
	"errors"
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
			why, node, err := a.why(cmd.Context(), &q)
			if err != nil {
				return err
			}
			if err := a.print(why, func(w io.Writer) { renderWhy(w, why, q.title(why), node) }); err != nil {
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

// why asks the agent of the node that has the pod.
func (a *app) why(ctx context.Context, q *whyQuestion) (*admin.Why, string, error) {
	agent, node, err := a.agentOf(ctx, q.namespace, q.pod)
	if err != nil {
		return nil, "", err
	}
	to, err := a.resolve(ctx, agent, q)
	if err != nil {
		return nil, "", err
	}
	why, err := agent.Why(ctx, admin.WhyRequest{
		Source:  q.namespace + "/" + q.pod,
		Address: to.Addr().String(), Port: to.Port(), Protocol: q.protocol,
	})
	return why, node, err
}

// agentOf finds the agent that a pod was announced to.
func (a *app) agentOf(ctx context.Context, namespace, name string) (*client.Agent, string, error) {
	t, err := a.targets()
	if err != nil {
		return nil, "", err
	}
	var errs []error
	for _, agent := range t.agents {
		pods, err := agent.Pods(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, p := range pods {
			if p.Namespace != namespace || p.Name != name {
				continue
			}
			status, err := agent.Status(ctx)
			if err != nil {
				return nil, "", err
			}
			return agent, status.Node, nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, "", err
	}
	return nil, "", fmt.Errorf("no agent knows a pod %s/%s (heddlectl get pods): hostNetwork pods are never captured, nor is what was not announced", namespace, name)
}

// resolve turns the destination into an address and a port.
func (a *app) resolve(ctx context.Context, agent *client.Agent, q *whyQuestion) (netip.AddrPort, error) {
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
	services, err := agent.Services(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	to, err := pickPort(services, namespace, name, port, q)
	if err == nil {
		q.service = namespace + "/" + name
	}
	return to, err
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

func renderWhy(w io.Writer, why *admin.Why, title, node string) {
	fmt.Fprintf(w, "%s, on %s\n", title, node)
	fmt.Fprintf(w, "%s %s: %s\n", strings.ToUpper(why.Verdict), why.Reason, why.Explanation)
	if why.Service != "" {
		line(w, "service", "%s", why.Service)
		line(w, "route", "%s", orDash(why.Route))
	}
	if why.Endpoint != "" {
		line(w, "endpoint", "%s (of this draw, another may differ)", why.Endpoint)
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
