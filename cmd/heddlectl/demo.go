package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/sandbox"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show Heddle at work in half a minute: a canary on two nodes, and what it costs",
		Long: `Show Heddle at work in half a minute, on two nodes in this machine: real programs
as pods, a canary moved from 90/10 to 0/100 while clients connect, the time from
the file to the kernel, and the latency and CPU time of a request with the mesh
on and off.

Everything is removed at the end, also on Ctrl-C. --keep (or KEEP=1) leaves the
sandbox running to look around. Exit code 1 when a connection failed or a share
was not as the route says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", a.env("KEEP") == "1", "leave the sandbox running (KEEP=1)")
	return cmd
}

// demo is one showing.
type demo struct {
	a   *app
	s   *sandbox.Sandbox
	out io.Writer
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// cleanLimit bounds the removal of the sandbox.
const cleanLimit = 30 * time.Second

func (a *app) demo(ctx context.Context, keep bool) (err error) {
	d := &demo{a: a, out: a.out}
	if d.s, err = a.ownBox(ctx, func(text string) { d.say("  %s", text) }); err != nil {
		return err
	}
	begin := time.Now()
	defer func() {
		if e := d.end(ctx, keep && err == nil); e != nil {
			err = errors.Join(err, e)
		}
		d.say("(%.0f s in all)", time.Since(begin).Seconds())
	}()

	if err := d.raise(ctx); err != nil {
		return err
	}
	if err := d.tour(ctx); err != nil {
		return err
	}
	canary, err := d.canary(ctx)
	if err != nil {
		return err
	}
	renderCanary(d.out, canary)
	cost, err := d.cost(ctx)
	if err != nil {
		return err
	}
	renderCost(d.out, cost)
	renderHints(d.out, a.program(), keep)
	if bad := canary.bad() || cost.failed > 0; bad {
		return errors.New("the demo did not go as it must: see the lines marked with ! above")
	}
	return nil
}

// ownBox is a sandbox for this command alone. What an earlier demo left when
// it was killed is removed first; one that is in use is not touched.
func (a *app) ownBox(ctx context.Context, progress func(string)) (*sandbox.Sandbox, error) {
	s, err := a.box(progress)
	if err != nil {
		return nil, err
	}
	if err := s.Preflight(); err != nil {
		return nil, err
	}
	up, err := s.IsUp()
	if err != nil {
		return nil, err
	}
	if up {
		abandoned, err := s.Abandoned()
		if err != nil {
			return nil, err
		}
		if !abandoned {
			return nil, fmt.Errorf("sandbox %s is up already: take it down first (heddlectl sandbox down)", s.Name())
		}
		if err := s.Down(ctx); err != nil {
			return nil, err
		}
	}
	return s.Own(), nil
}

// end leaves the sandbox to the user, or removes it, also after a Ctrl-C.
func (d *demo) end(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	if keep {
		return d.s.Release(ctx)
	}
	d.say("\ncleaning up")
	return d.s.Down(ctx)
}

// raise brings nodes and pods up.
func (d *demo) raise(ctx context.Context) error {
	d.say("two nodes, each a network namespace with an agent and its kernel programs:")
	if err := d.s.Up(ctx); err != nil {
		return err
	}
	if _, err := d.s.Apply(ctx, d.a.manifest()); err != nil {
		return err
	}
	pods, err := d.s.Pods()
	if err != nil {
		return err
	}
	on := map[string][]string{}
	for _, p := range pods {
		on[p.Node] = append(on[p.Node], p.Namespace+"/"+p.Name)
	}
	for _, node := range d.s.Nodes() {
		d.say("  pods on %s: %s", node, strings.Join(on[node], " "))
	}
	d.say("  (namespace shop is in the mesh, namespace plain is not; no pod was given anything)")
	return nil
}

// tourLimit bounds each visit of the tour.
const tourLimit = 10 * time.Second

// tour lets ordinary programs use service addresses.
func (d *demo) tour(ctx context.Context) error {
	web, err := d.serviceAddress("web")
	if err != nil {
		return err
	}
	cache, err := d.serviceAddress("cache")
	if err != nil {
		return err
	}
	d.say("\nordinary programs in pod shop/client-1 dial service addresses:")
	for _, visit := range []struct {
		needs []string
		argv  []string
		show  func(string) string
	}{
		{[]string{"curl"}, []string{"curl", "-sS", "http://" + netip.AddrPortFrom(web[0], 80).String()}, firstLine},
		{[]string{"curl"}, []string{"curl", "-sS", "http://" + netip.AddrPortFrom(web[len(web)-1], 80).String()}, firstLine},
		{[]string{"redis-server", "redis-cli"}, []string{"redis-cli", "-h", cache[0].String(), "PING"}, firstLine},
		{[]string{"wrk"}, []string{"wrk", "-t1", "-c8", "-d1s", "http://" + netip.AddrPortFrom(web[0], 80).String()}, wrkLine},
	} {
		if missing := d.a.missing(visit.needs); missing != "" {
			d.say("  %s (left out: %s is not installed)", strings.Join(visit.argv, " "), missing)
			continue
		}
		if err := d.visit(ctx, visit.argv, visit.show); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) visit(ctx context.Context, argv []string, show func(string) string) error {
	ctx, cancel := context.WithTimeout(ctx, tourLimit)
	defer cancel()
	cmd, err := d.s.Command(ctx, "shop", "client-1", argv...)
	if err != nil {
		return err
	}
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	d.say("  %-50s %s", strings.Join(argv, " "), show(string(out)))
	return nil
}

func (a *app) missing(programs []string) string {
	for _, p := range programs {
		if !a.installed(p) {
			return p
		}
	}
	return ""
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// wrkLine is the rate that wrk reports, and its errors if there were any.
func wrkLine(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Requests/sec:") || strings.HasPrefix(line, "Socket errors:") || strings.HasPrefix(line, "Non-2xx") {
			parts = append(parts, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(parts, ", ")
}

// serviceAddress are the cluster IPs of a service of namespace shop.
func (d *demo) serviceAddress(name string) ([]netip.Addr, error) {
	svc, err := d.s.Service("shop", name)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, text := range svc.Spec.ClusterIPs {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("service shop/%s: %w", name, err)
		}
		out = append(out, addr)
	}
	return out, nil
}

// player is a load generator that waits for orders inside a pod.
type player struct {
	cmd     *sandbox.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

func (d *demo) player(ctx context.Context, namespace, pod string) (*player, error) {
	cmd, err := d.s.Command(ctx, namespace, pod, "heddlectl", "load", "--orders")
	if err != nil {
		return nil, err
	}
	cmd.Stderr = d.a.err
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &player{cmd, orders, json.NewDecoder(answers)}, cmd.Start()
}

// begin gives an order; stop ends it early; end waits for its result.
func (p *player) begin(o loadOrder) error { return json.NewEncoder(p.orders).Encode(o) }

func (p *player) stop() error {
	_, err := io.WriteString(p.orders, "stop\n")
	return err
}

func (p *player) end() (*loadResult, error) {
	result := &loadResult{}
	if err := p.answers.Decode(result); err != nil {
		return nil, fmt.Errorf("the load generator did not answer: %w", err)
	}
	return result, nil
}

// quit ends the generator.
func (p *player) quit() {
	p.orders.Close()
	_ = p.cmd.Wait() // its results were read; how it ends says nothing
}

// program is how the user calls us, with the sandbox that was meant.
func (a *app) program() string {
	if a.sandbox != "" {
		return a.name + " --sandbox " + a.sandbox
	}
	return a.name
}

// renderHints says where to go on.
func renderHints(w io.Writer, program string, kept bool) {
	fmt.Fprintln(w)
	if kept {
		fmt.Fprintln(w, "the sandbox stays up; look around:")
	} else {
		fmt.Fprintln(w, "look around with KEEP=1 make demo (or heddlectl demo --keep), then:")
	}
	t := &table{indent: "  "}
	for _, hint := range [][2]string{
		{"status", "controller and nodes: feed, tables, problems"},
		{"describe service shop/web", "shares, expected and observed"},
		{"why shop/client-1 shop/web", "the decision, by the code that takes it"},
		{"get routes", "every service port and its backends"},
		{"sandbox ps", "the pods and their processes"},
		{"sandbox exec shop/client-1 -- sh", "a shell in a pod"},
		{"sandbox down", "remove everything"},
	} {
		t.row(program+" "+hint[0], hint[1])
	}
	t.write(w)
}
