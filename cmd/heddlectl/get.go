package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

func (a *app) getCommand() *cobra.Command {
	get := &cobra.Command{
		Use:   "get",
		Short: "List what the nodes have: routes, endpoints, pods, maps",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage{fmt.Errorf("get what? routes, endpoints, pods or maps")}
		},
	}
	get.AddCommand(
		&cobra.Command{
			Use: "routes [SERVICE]", Aliases: []string{"services"},
			Short: "Service ports, and the backends that their connections are spread over",
			Args:  cobra.MaximumNArgs(1), ValidArgsFunction: a.completeServices,
			RunE: func(cmd *cobra.Command, args []string) error {
				list, err := ask(cmd.Context(), a, (*client.Agent).Services)
				list, err2 := a.only(list, args)
				if err2 != nil {
					return err2
				}
				return a.show(list, err, func(w io.Writer) { renderRoutes(w, list) })
			},
		},
		&cobra.Command{
			Use:   "endpoints",
			Short: "Endpoints of every cluster, and those that each node uses",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				list, err := ask(cmd.Context(), a, (*client.Agent).Clusters)
				return a.show(list, err, func(w io.Writer) { renderEndpoints(w, list) })
			},
		},
		&cobra.Command{
			Use:   "pods",
			Short: "Pods that the agents know, and whether their traffic is captured",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				list, err := ask(cmd.Context(), a, (*client.Agent).Pods)
				return a.show(list, err, func(w io.Writer) { renderPods(w, list) })
			},
		},
		a.getMapsCommand(),
	)
	return get
}

func (a *app) getMapsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "maps [NAME]",
		Short: "Kernel maps and how full they are, or the contents of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				list, err := ask(cmd.Context(), a, (*client.Agent).Maps)
				return a.show(list, err, func(w io.Writer) { renderMaps(w, list) })
			}
			list, err := ask(cmd.Context(), a, func(agent *client.Agent, ctx context.Context) ([]admin.MapDump, error) {
				dump, err := agent.Dump(ctx, args[0])
				if err != nil {
					return nil, err
				}
				return []admin.MapDump{*dump}, nil
			})
			return a.show(list, err, func(w io.Writer) { renderDump(w, list) })
		},
	}
}

// show prints what was answered and hands on the error of those that did not.
func (a *app) show(v any, err error, text func(io.Writer)) error {
	if perr := a.print(v, text); perr != nil {
		return perr
	}
	return err
}

// only keeps the service that was named, if one was.
func (a *app) only(list []answer[admin.Service], args []string) ([]answer[admin.Service], error) {
	if len(args) == 0 {
		return list, nil
	}
	namespace, name, err := a.split(args[0])
	if err != nil {
		return nil, err
	}
	found := false
	for i := range list {
		list[i].Items = slices.DeleteFunc(list[i].Items, func(s admin.Service) bool {
			return s.Namespace != namespace || s.Name != name
		})
		found = found || len(list[i].Items) > 0
	}
	if !found && len(list) > 0 {
		return nil, fmt.Errorf("no node knows a service %s/%s: it has no cluster IP, or the controller refused it (heddlectl status)", namespace, name)
	}
	return list, nil
}

// merged joins rows that are equal on several nodes: the first column says
// which. One that all nodes have in common is said to be on "all".
func merged(header []string, nodes []string, rows map[string][][]string) *table {
	type entry struct {
		cells []string
		on    []string
	}
	var order []*entry
	index := map[string]*entry{}
	for _, node := range nodes {
		for _, cells := range rows[node] {
			key := strings.Join(cells, "\x00")
			e := index[key]
			if e == nil {
				e = &entry{cells: cells}
				index[key] = e
				order = append(order, e)
			}
			e.on = append(e.on, node)
		}
	}
	slices.SortStableFunc(order, func(a, b *entry) int { return slices.Compare(a.cells[:2], b.cells[:2]) })
	t := &table{}
	t.row(append([]string{"NODE"}, header...)...)
	for _, e := range order {
		on := strings.Join(e.on, ",")
		if len(e.on) == len(nodes) && len(nodes) > 1 {
			on = "all"
		}
		t.row(append([]string{on}, e.cells...)...)
	}
	return t
}

// gather makes the rows of every node for merged.
func gather[T any](list []answer[T], row func(T) [][]string) ([]string, map[string][][]string) {
	var nodes []string
	rows := map[string][][]string{}
	for _, l := range list {
		nodes = append(nodes, l.Node)
		for _, item := range l.Items {
			rows[l.Node] = append(rows[l.Node], row(item)...)
		}
	}
	return nodes, rows
}

func serviceName(s *admin.Service) string {
	name := s.Namespace + "/" + s.Name
	if s.Scope != "" {
		name += " (for " + s.Scope + ")"
	}
	return name
}

func portName(s *admin.Service) string {
	text := fmt.Sprintf("%d/%s", s.Port, strings.ToLower(s.Protocol))
	if s.PortName != "" {
		text += " " + s.PortName
	}
	return text
}

func renderRoutes(w io.Writer, list []answer[admin.Service]) {
	nodes, rows := gather(list, func(s admin.Service) [][]string {
		var backends []string
		for _, b := range s.Backends {
			text := b.Backend + " " + percent(b.Share)
			if b.Problem != "" {
				text += " (" + b.Problem + ")"
			}
			backends = append(backends, text)
		}
		return [][]string{{
			serviceName(&s), portName(&s), strings.Join(s.Addresses, ","),
			orDash(s.Route), orDash(strings.Join(backends, ", ")),
		}}
	})
	merged([]string{"SERVICE", "PORT", "ADDRESS", "ROUTE", "BACKENDS"}, nodes, rows).write(w)
}

// renderEndpoints keeps the nodes apart: which endpoints are used is the
// node's own choice.
func renderEndpoints(w io.Writer, list []answer[admin.Cluster]) {
	t := &table{}
	t.row("ON", "CLUSTER", "LOCALITY", "ENDPOINT", "WORKLOAD", "NODE", "ZONE", "STATE", "OPENED", "OPEN")
	for _, l := range list {
		for _, c := range l.Items {
			if len(c.Endpoints) == 0 {
				t.row(l.Node, c.Name, c.Locality, "(none)")
			}
			for _, e := range c.Endpoints {
				t.row(l.Node, c.Name, c.Locality, e.Address, orDash(e.Workload), orDash(e.Node), orDash(e.Zone), endpointState(&e), number(e.Opened), number(e.Open))
			}
		}
	}
	t.write(w)
}

func endpointState(e *admin.Endpoint) string {
	state := "unused"
	if e.Used {
		state = "used"
	}
	if e.Draining {
		state += ",draining"
	}
	return state
}

func renderPods(w io.Writer, list []answer[admin.Pod]) {
	t := &table{}
	t.row("NODE", "POD", "ADDRESSES", "MESH", "INTERFACE", "FROM POD", "TO POD", "DROPPED")
	for _, l := range list {
		for _, p := range l.Items {
			mesh := "captured (" + p.Mode + ")"
			if !p.Enrolled {
				mesh = "no: " + p.Reason
			}
			t.row(l.Node, p.Namespace+"/"+p.Name, orDash(strings.Join(p.Addresses, ",")), mesh, orDash(p.Interface),
				traffic(p.RxPackets, p.RxBytes), traffic(p.TxPackets, p.TxBytes), number(p.Dropped))
		}
	}
	t.write(w)
}

func traffic(packets, bytes uint64) string {
	return fmt.Sprintf("%d packets %s", packets, size(bytes))
}

func size(bytes uint64) string {
	value, unit := float64(bytes), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

func renderMaps(w io.Writer, list []answer[admin.Map]) {
	t := &table{}
	t.row("NODE", "MAP", "TYPE", "ENTRIES", "OF", "KEY", "VALUE", "MEMORY", "PIN")
	for _, l := range list {
		for _, m := range l.Items {
			entries := fmt.Sprint(m.Entries)
			if m.Entries < 0 {
				entries = "?"
			}
			t.row(l.Node, m.Name, m.Type, entries, fmt.Sprint(m.MaxEntries), fmt.Sprintf("%d B", m.KeySize), fmt.Sprintf("%d B", m.ValueSize), size(m.Bytes), m.Pin)
		}
	}
	t.write(w)
}

func renderDump(w io.Writer, list []answer[admin.MapDump]) {
	for _, l := range list {
		for _, d := range l.Items {
			fmt.Fprintf(w, "%s on %s, %d shown\n", d.Name, l.Node, len(d.Entries))
			for _, e := range d.Entries {
				fmt.Fprintf(w, "  %s\n      -> %s\n", e.Key, e.Value)
			}
			if d.More {
				fmt.Fprintln(w, "  … and more")
			}
		}
	}
}
