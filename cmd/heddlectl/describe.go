package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

func (a *app) describeCommand() *cobra.Command {
	describe := &cobra.Command{
		Use:   "describe",
		Short: "Show one service, pod or route in full",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage{fmt.Errorf("describe what? service NAME or pod NAME or route NAME")}
		},
	}
	describe.AddCommand(
		&cobra.Command{
			Use: "service NAME", Aliases: []string{"svc"},
			Short: "A service's ports: route, weights, expected and observed shares, endpoints",
			Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completeServices,
			RunE: func(cmd *cobra.Command, args []string) error {
				list, err := ask(cmd.Context(), a, (*client.Agent).Services)
				list, err2 := a.only(list, args)
				if err2 != nil {
					return err2
				}
				now := time.Now()
				return a.show(list, err, func(w io.Writer) { renderService(w, list, now) })
			},
		},
		&cobra.Command{
			Use:   "pod NAME",
			Short: "A pod: whether it is captured, its interface and traffic",
			Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completePods,
			RunE: func(cmd *cobra.Command, args []string) error {
				namespace, name, err := a.split(args[0])
				if err != nil {
					return err
				}
				t, err := a.targetsOf(cmd.Context(), namespace, name)
				if err != nil {
					return err
				}
				list, err := askAll(cmd.Context(), a, t, (*client.Agent).Pods)
				var found []answer[admin.Pod]
				for _, l := range list {
					l.Items = slices.DeleteFunc(l.Items, func(p admin.Pod) bool { return p.Namespace != namespace || p.Name != name })
					if len(l.Items) > 0 {
						found = append(found, l)
					}
				}
				if len(found) == 0 && err == nil {
					return fmt.Errorf("no agent knows a pod %s/%s: it was not announced (hostNetwork pods never are)", namespace, name)
				}
				return a.show(found, err, func(w io.Writer) { renderPod(w, found) })
			},
		},
		&cobra.Command{
			Use:   "route NAME",
			Short: "A route: the service ports it decides, expected and observed shares",
			Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completeRoutes,
			RunE: func(cmd *cobra.Command, args []string) error {
				namespace, name, err := a.split(args[0])
				if err != nil {
					return err
				}
				list, err := ask(cmd.Context(), a, (*client.Agent).Services)
				if !keepRoute(list, namespace, name) && err == nil {
					return fmt.Errorf("no node has a route %s/%s: it does not exist, is attached to no service, or was refused (heddlectl status)", namespace, name)
				}
				now := time.Now()
				return a.show(list, err, func(w io.Writer) { renderService(w, list, now) })
			},
		},
	)
	return describe
}

// keepRoute keeps the service ports that a route decides, and reports whether
// there are any. The agents name a route "TCPRoute namespace/name".
func keepRoute(list []answer[admin.Service], namespace, name string) bool {
	found := false
	for i := range list {
		list[i].Items = slices.DeleteFunc(list[i].Items, func(s admin.Service) bool {
			_, ref, _ := strings.Cut(s.Route, " ")
			return ref != namespace+"/"+name
		})
		found = found || len(list[i].Items) > 0
	}
	return found
}

func (a *app) completeRoutes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := ask(cmd.Context(), a, (*client.Agent).Services)
	var names []string
	for _, l := range list {
		for _, s := range l.Items {
			if _, ref, ok := strings.Cut(s.Route, " "); ok {
				names = append(names, ref)
			}
		}
	}
	return unique(names), cobra.ShellCompDirectiveNoFileComp
}

// renderService shows each port (and variant) once, with a row per backend and
// node: shares are the same on every node, counters and endpoints are not.
func renderService(w io.Writer, list []answer[admin.Service], now time.Time) {
	type port struct {
		admin.Service
		on []answer[admin.Service] // the same port, node by node
	}
	var order []*port
	index := map[string]*port{}
	for _, l := range list {
		for _, s := range l.Items {
			key := serviceName(&s) + portName(&s)
			p := index[key]
			if p == nil {
				p = &port{Service: s}
				index[key] = p
				order = append(order, p)
			}
			p.on = append(p.on, answer[admin.Service]{Node: l.Node, Items: []admin.Service{s}})
		}
	}
	for i, p := range order {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s port %s\n", serviceName(&p.Service), portName(&p.Service))
		line(w, "address", "%s", strings.Join(p.Addresses, ", "))
		line(w, "route", "%s", orDash(p.Route))
		if p.Affinity > 0 {
			line(w, "affinity", "ClientIP, %s", time.Duration(p.Affinity)*time.Second)
		}
		renderBackends(w, p.on, now)
	}
}

func renderBackends(w io.Writer, on []answer[admin.Service], now time.Time) {
	t := &table{indent: "  "}
	t.row("NODE", "BACKEND", "WEIGHT", "SHARE", "OBSERVED", "OPENED", "OPEN", "ENDPOINTS", "CHANGED")
	for _, l := range on {
		s := &l.Items[0]
		for _, b := range s.Backends {
			endpoints := addresses(b.Endpoints)
			if b.Problem != "" {
				endpoints = "refused: " + b.Problem
			}
			t.row(l.Node, b.Backend, fmt.Sprint(b.Weight), percent(b.Share), percent(b.Observed), number(b.Opened), number(b.Open), endpoints, ago(now, s.Programmed)+" ago")
		}
	}
	t.write(w)
	for _, l := range on {
		if refused := l.Items[0].Refused; len(refused) > 0 {
			line(w, "refused", "on %s: %s", l.Node, counts(refused))
		}
	}
}

func renderPod(w io.Writer, list []answer[admin.Pod]) {
	for _, l := range list {
		for _, p := range l.Items {
			fmt.Fprintf(w, "%s/%s on %s\n", p.Namespace, p.Name, l.Node)
			line(w, "address", "%s", orDash(strings.Join(p.Addresses, ", ")))
			mode := p.Mode
			if p.Enrolled {
				line(w, "mesh", "captured")
			} else {
				line(w, "mesh", "not captured: %s", p.Reason)
				mode = "no programs"
			}
			line(w, "fast path", "%s", fastPath(&p))
			line(w, "bypass", "%s", orDash(p.Bypass))
			line(w, "netns", "cookie %d", p.Netns)
			line(w, "interface", "%s (index %d, %s)", orDash(p.Interface), p.Ifindex, mode)
			line(w, "from pod", "%s", traffic(p.RxPackets, p.RxBytes))
			line(w, "to pod", "%s", traffic(p.TxPackets, p.TxBytes))
			line(w, "dropped", "%s", plural(int(p.Dropped), "packet"))
		}
	}
}

// fastPath says whether packets of a pod may skip the stack, and why not.
func fastPath(p *admin.Pod) string {
	switch {
	case !p.Enrolled:
		return "off: the pod is not captured"
	case p.FastPathOff != "":
		return "off: " + p.FastPathOff
	}
	return "on, with the captured pods of this node"
}

// completeServices and completePods offer the names that the agents know.
func (a *app) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := ask(cmd.Context(), a, (*client.Agent).Services)
	var names []string
	for _, l := range list {
		for _, s := range l.Items {
			names = append(names, s.Namespace+"/"+s.Name)
		}
	}
	return unique(names), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completePods(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := ask(cmd.Context(), a, (*client.Agent).Pods)
	var names []string
	for _, l := range list {
		for _, p := range l.Items {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	return unique(names), cobra.ShellCompDirectiveNoFileComp
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
