package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"heddle.io/heddle/e2e/bench/load"
	"heddle.io/heddle/install/sandbox"
)

// patience bounds every wait for something that should take no time.
const patience = 20 * time.Second

// A world is a sandbox and the variants in it.
type world struct {
	*sandbox.Sandbox
	variants []*Variant
	services map[*Variant]netip.AddrPort
	// ours is set when the name was free: what another run uses is not touched.
	ours bool
	// features are what the agents said they use, by node; of a mesh only.
	features map[string][]string
}

func (w *world) mesh() bool { return w.variants[0].Mesh }

// newWorld makes the handle of a world. number tells worlds of a run apart.
func newWorld(o *Options, number int, variants []*Variant) (*world, error) {
	s, err := sandbox.New(sandbox.Options{
		Name: fmt.Sprintf("%s-%d", o.Name, number), Bin: o.Bin, AgentArgs: variants[0].AgentArgs,
	})
	if err != nil {
		return nil, err
	}
	return &world{Sandbox: s.Own(), variants: variants, services: map[*Variant]netip.AddrPort{}}, nil
}

// unavailable is why a variant cannot be measured here.
type unavailable struct{ reason string }

func (e *unavailable) Error() string { return e.reason }

// raise brings the world up: nodes, pods, rules, and for a mesh its agents.
func (w *world) raise(ctx context.Context, o *Options) error {
	if err := w.clear(ctx); err != nil {
		return err
	}
	if err := w.Up(ctx); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, []byte(w.manifest())); err != nil {
		return err
	}
	for i, v := range w.variants {
		w.services[v] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 2, byte(i + 1)}), 80)
	}
	if slices.ContainsFunc(w.variants, func(v *Variant) bool { return v.Setting == conntrack }) {
		if err := w.loadRules(ctx); err != nil {
			return err
		}
	}
	for _, v := range w.variants {
		// One target address and many connections: the usual range of ports is
		// smaller than what one cell may use.
		if err := w.sysctl(ctx, v, "net/ipv4/ip_local_port_range", "10000 65535"); err != nil {
			return err
		}
		if err := w.sysctl(ctx, v, congestionControl, o.Congestion); err != nil {
			return err
		}
	}
	for _, node := range w.Nodes() { // for the proxies
		if err := w.nodeSysctl(ctx, node, congestionControl, o.Congestion); err != nil {
			return err
		}
	}
	if !w.mesh() {
		return w.removeMesh(ctx)
	}
	return w.awaitMesh(ctx, o)
}

// clear removes what a run that was killed left behind, and nothing that is in use.
func (w *world) clear(ctx context.Context) error {
	up, err := w.IsUp()
	if err != nil {
		return err
	}
	if up {
		abandoned, err := w.Abandoned()
		if err != nil {
			return err
		}
		if !abandoned {
			return fmt.Errorf("sandbox %s is up: another bench runs; wait for its end", w.Name())
		}
	}
	w.ours = true
	return w.Down(ctx)
}

// manifest is the namespace, and for each variant two pods and a service.
func (w *world) manifest() string {
	var b strings.Builder
	mesh := map[bool]string{true: "enabled", false: "disabled"}[w.mesh()]
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {heddle.io/mesh: %s}}\n", namespace, mesh)
	for i, v := range w.variants {
		for _, end := range []string{"client", "server"} {
			labels := []string{"app: " + end + "-" + v.slug()}
			for k, value := range v.PodLabels {
				labels = append(labels, k+": "+value)
			}
			slices.Sort(labels)
			fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s-%[2]s, namespace: %[3]s, labels: {%[4]s}}
spec:
  nodeName: %[5]s
  containers:
  - {name: main, image: none, command: [sleep, infinity]}
`, end, v.slug(), namespace, strings.Join(labels, ", "), v.Setting.node())
		}
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  clusterIP: 10.96.2.%[3]d
  selector: {app: server-%[1]s}
  ports:
  - {port: 80, targetPort: %[4]d}
`, v.slug(), namespace, i+1, serverPort)
	}
	return b.String()
}

const (
	namespace  = "bench"
	serverPort = 8080
)

func (w *world) client(v *Variant) (*sandbox.Pod, error) { return w.Pod(namespace, "client-"+v.slug()) }
func (w *world) server(v *Variant) (*sandbox.Pod, error) { return w.Pod(namespace, "server-"+v.slug()) }

// serverAddress is where the variant's server listens.
func (w *world) serverAddress(v *Variant) (netip.AddrPort, error) {
	pod, err := w.server(v)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range pod.Addresses {
		if a.Is4() {
			return netip.AddrPortFrom(a, serverPort), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("pod %s has no IPv4 address: %v", pod.Name, pod.Addresses)
}

// loadRules gives the node with conntrack its ruleset.
func (w *world) loadRules(ctx context.Context) error {
	rules := fillerRules()
	for _, v := range w.variants {
		if v.Setting != conntrack {
			continue
		}
		to, err := w.serverAddress(v)
		if err != nil {
			return err
		}
		rules = append(rules, rule{v.slug(), w.services[v], []netip.AddrPort{to}})
	}
	nft, err := w.NodeCommand(ctx, conntrack.node(), "nft", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w: install nftables (.ci/setup bench)", err)
	}
	nft.Stdin = strings.NewReader(kubeProxyRules(rules))
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("load the rules of %s: %w: %s", conntrack.node(), err, out)
	}
	// Ten thousand connections a second, each remembered for two minutes, are
	// more than the table holds: entries of closed ones go earlier.
	return w.nodeSysctl(ctx, conntrack.node(), "net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5")
}

// congestionControl is the setting that new sockets of a namespace begin with.
const congestionControl = "net/ipv4/tcp_congestion_control"

func (w *world) nodeSysctl(ctx context.Context, node, name, value string) error {
	cmd, err := w.NodeCommand(ctx, node, "sh", "-c", "echo '"+value+"' >/proc/sys/"+name)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set %s on %s: %w: %s", name, node, err, out)
	}
	return nil
}

func (w *world) sysctl(ctx context.Context, v *Variant, name, value string) error {
	for _, end := range []string{"client-", "server-"} {
		cmd, err := w.Command(ctx, namespace, end+v.slug(), "sh", "-c", "echo '"+value+"' >/proc/sys/"+name)
		if err != nil {
			return err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("set %s in the pods: %w: %s", name, err, out)
		}
	}
	return nil
}

// removeMesh takes Heddle away from the nodes of a world without a mesh: the
// processes, and with the pins everything that they put into the kernel.
func (w *world) removeMesh(ctx context.Context) error {
	for _, node := range w.Nodes() {
		if err := w.StopAgent(ctx, node, syscall.SIGTERM); err != nil {
			return err
		}
	}
	if err := w.StopController(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join("/sys/fs/bpf", w.Name()+"-sandbox")); err != nil {
		return fmt.Errorf("take Heddle out of the kernel: %w", err)
	}
	return nil
}

// awaitMesh waits until the kernels know every service and its endpoint, and
// puts agents and controller onto the cores that are measured.
func (w *world) awaitMesh(ctx context.Context, o *Options) error {
	for _, v := range w.variants {
		err := eventually(ctx, func() error {
			_, err := w.established(ctx, v)
			return err
		})
		if err != nil {
			return err
		}
	}
	controller, err := w.ControllerProcess()
	if err != nil {
		return err
	}
	if err := load.Pin(controller.PID, o.cores()...); err != nil {
		return err
	}
	w.features = map[string][]string{}
	for _, node := range w.Nodes() {
		agent, err := w.AgentProcess(node)
		if err != nil {
			return err
		}
		if err := load.Pin(agent.PID, o.cores()...); err != nil {
			return err
		}
		status, err := w.Agent(node).Status(ctx)
		if err != nil {
			return err
		}
		for _, f := range status.Features {
			text := f.Name + " " + map[bool]string{true: "on", false: "off"}[f.On]
			if f.Reason != "" {
				text += " (" + f.Reason + ")"
			}
			w.features[node] = append(w.features[node], text)
		}
	}
	return nil
}

// established is how many connections the agent counted for a variant's service.
func (w *world) established(ctx context.Context, v *Variant) (uint64, error) {
	services, err := w.Agent(v.Setting.node()).Services(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range services {
		if s.Namespace != namespace || s.Name != v.slug() {
			continue
		}
		var n uint64
		for _, b := range s.Backends {
			if len(b.Endpoints) == 0 {
				return 0, fmt.Errorf("service %s has no endpoint on %s", s.Name, v.Setting.node())
			}
			n += b.Established
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s does not know service %s", v.Setting.node(), v.slug())
}

// served is how many connections the variant's mechanism has taken over on its
// node so far. Variants take turns, so all that come during a visit are its own.
func (w *world) served(ctx context.Context, v *Variant) (uint64, error) {
	if v.Mechanism == "" {
		return 0, nil
	}
	status, err := w.Agent(v.Setting.node()).Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range status.Mechanisms {
		if m.Name == v.Mechanism {
			return m.Total, nil
		}
	}
	return 0, fmt.Errorf("the agent of %s knows no mechanism %s", v.Setting.node(), v.Mechanism)
}

// eventually repeats a check until it has no complaint.
func eventually(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// cores are those that are measured on.
func (o *Options) cores() []int {
	if o.Split {
		return []int{o.Core, o.Core + 1}
	}
	return []int{o.Core}
}
