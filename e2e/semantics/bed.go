package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"heddle.io/heddle/dataplane/semantics"
	"heddle.io/heddle/install/sandbox"
)

// boxName is the sandbox's name, its own: it never meets those of others.
const boxName = "heddle-sem"

// patience bounds every wait for the sandbox.
const patience = 2 * time.Minute

// The namespaces of the bed, and of each the same three pods.
const (
	outside  = "outside"  // not in the mesh
	enrolled = "enrolled" // in it
)

var pods = []struct{ name, node string }{
	{"client", "node1"},
	{"near", "node1"},
	{"far", "node2"},
}

// Addresses of the services that lead to the pods near and far.
var services = map[string]struct{ v4, v6 string }{
	"near": {"10.96.7.1", "fd00:10:96::701"},
	"far":  {"10.96.7.2", "fd00:10:96::702"},
}

// A bed is a sandbox in one mode, with pods outside the mesh and enrolled ones,
// and a maker of sockets in each.
type bed struct {
	box    *sandbox.Sandbox
	makers map[string]*maker // "namespace/pod"
	addrs  map[string][]netip.Addr
	netns  map[string]string
}

// newBed brings the sandbox up. close takes it down, also after a failure here.
func newBed(ctx context.Context, bin string, m mode, conntrack bool) (b *bed, err error) {
	if conntrack {
		if _, err := exec.LookPath("nft"); err != nil {
			return nil, fmt.Errorf("rules with connection tracking need nft: install nftables, or give -conntrack=false (%w)", err)
		}
	}
	box, err := sandbox.New(sandbox.Options{Name: boxName, Bin: bin, AgentArgs: m.agent})
	if err != nil {
		return nil, err
	}
	b = &bed{box: box, makers: map[string]*maker{}, addrs: map[string][]netip.Addr{}, netns: map[string]string{}}
	if err := box.Down(ctx); err != nil { // of a run that was killed
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := box.Up(ctx); err != nil {
		return nil, err
	}
	if _, err := box.Apply(ctx, manifest(m)); err != nil {
		return nil, err
	}
	if err := b.waitServices(ctx); err != nil {
		return nil, err
	}
	for _, namespace := range []string{outside, enrolled} {
		for _, p := range pods {
			if err := b.enter(namespace, p.name); err != nil {
				return nil, err
			}
		}
	}
	if conntrack {
		if err := b.track(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// enter starts the maker of a pod's sockets.
func (b *bed) enter(namespace, name string) error {
	key := namespace + "/" + name
	pod, err := b.box.Pod(namespace, name)
	if err != nil {
		return err
	}
	b.addrs[key], b.netns[key] = pod.Addresses, pod.Netns
	b.makers[key], err = startMaker(func(argv ...string) (*sandbox.Cmd, error) {
		return b.box.Command(context.Background(), namespace, name, argv...)
	})
	return err
}

func (b *bed) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []error
	for _, m := range b.makers {
		all = append(all, m.close())
	}
	return errors.Join(append(all, b.box.Down(ctx))...)
}

// ends are a client and a server in a setting, of one of the namespaces. Who is
// enrolled dials the service.
func (b *bed) ends(s setting, namespace string) semantics.Ends {
	server := "far"
	if s.near {
		server = "near"
	}
	e := semantics.Ends{Client: b.place(namespace, "client", s.v6), Server: b.place(namespace, server, s.v6)}
	if namespace == enrolled {
		service := services[server].v4
		if s.v6 {
			service = services[server].v6
		}
		e.Dial = netip.MustParseAddr(service)
	}
	return e
}

func (b *bed) place(namespace, name string, v6 bool) semantics.Place {
	key := namespace + "/" + name
	p := semantics.Place{Netns: b.netns[key], Socket: b.makers[key].socket}
	for _, a := range b.addrs[key] {
		if a.Is6() == v6 {
			p.Addr = a
		}
	}
	return p
}

// opened counts the connections that the client's node has balanced.
func (b *bed) opened(ctx context.Context) (n uint64, err error) {
	all, err := b.box.Agent("node1").Services(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		for _, backend := range s.Backends {
			n += backend.Opened
		}
	}
	return n, nil
}

// mechanism is what the client's agent says of the mechanism of a mode: "on", or
// "off: " and why. A mode that fell back to something else equals it.
func (b *bed) mechanism(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	status, err := b.box.Agent("node1").Status(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range status.Features {
		switch {
		case f.Name == name && f.On:
			return "on", nil
		case f.Name == name:
			return "off: " + f.Reason, nil
		}
	}
	return "", fmt.Errorf("the agent of node1 says nothing of %s: see heddlectl status --sandbox=%s", name, b.box.Name())
}

// waitServices waits until the client's kernel has an endpoint for every port.
func (b *bed) waitServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := b.box.Agent("node1").Services(ctx)
		if err != nil {
			return err
		}
		ready := 0
		for _, s := range all {
			if len(s.Backends) == 1 && len(s.Backends[0].Endpoints) > 0 {
				ready++
			}
		}
		if ready == len(services)*semantics.Ports {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node1 has endpoints for %d of %d service ports: see heddlectl status --sandbox=%s", ready, len(services)*semantics.Ports, b.box.Name())
		case <-tick.C:
		}
	}
}

// manifest is the YAML of a bed.
func manifest(m mode) []byte {
	var y bytes.Buffer
	for _, namespace := range []string{outside, enrolled} {
		label, labels := "disabled", ""
		if namespace == enrolled {
			label = "enabled"
			if m.labels != "" {
				labels = ", " + m.labels
			}
		}
		fmt.Fprintf(&y, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {heddle.io/mesh: %s}}\n", namespace, label)
		for _, p := range pods {
			fmt.Fprintf(&y, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s%s}}
spec:
  nodeName: %s
  containers:
  - {name: main, image: none, command: [sleep, infinity]}
`, p.name, namespace, p.name, labels, p.node)
		}
	}
	for name, a := range services {
		fmt.Fprintf(&y, `---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec:
  clusterIPs: ["%s", "%s"]
  ipFamilyPolicy: RequireDualStack
  selector: {app: %s}
  ports:
`, name, enrolled, a.v4, a.v6, name)
		for i := range semantics.Ports {
			fmt.Fprintf(&y, "  - {name: p%d, port: %d}\n", i, semantics.FirstPort+i)
		}
	}
	return y.Bytes()
}
