package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Up brings the sandbox up: nodes, fabric, controller and agents. It repairs
// what is missing and leaves alone what is there, so it may be called again.
// After a failure Down cleans up whatever was made.
func (s *Sandbox) Up(ctx context.Context) error {
	if err := s.Preflight(); err != nil {
		return err
	}
	x, err := s.create(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	if err := x.ensureNodes(); err != nil {
		return err
	}
	if err := x.ensureController(ctx); err != nil {
		return err
	}
	if err := x.ensureAgents(ctx); err != nil {
		return err
	}
	return x.ensureKubelet()
}

// Preflight says what a sandbox needs and this machine lacks. Up begins with it.
func (s *Sandbox) Preflight() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the sandbox makes network namespaces, cgroups and BPF programs: run this as root")
	}
	if _, err := cgroup2Mount(); err != nil {
		return err
	}
	for _, name := range []string{"heddled", "heddle-controller", "heddlectl"} {
		if _, err := s.binary(name); err != nil {
			return err
		}
	}
	return nil
}

// ensureNodes makes the nodes' namespaces and cgroups, the fabric between them
// and the Node objects.
func (x *session) ensureNodes() error {
	for _, n := range nodes {
		if err := makeNetns(x.s.nodeNetns(n.name)); err != nil {
			return err
		}
		err := inNetns(x.s.nodeNetns(n.name), func() error {
			return setSysctls([][2]string{
				{"net.ipv4.ip_forward", "1"},
				{"net.ipv6.conf.all.forwarding", "1"},
			})
		})
		if err != nil {
			return err
		}
		for _, dir := range []string{nodeCgroup(x.root, n.name), filepath.Join(x.root, n.name, "heddle")} {
			if err := makeCgroup(dir); err != nil {
				return err
			}
		}
	}
	if err := x.s.connectNodes(); err != nil {
		return err
	}
	return x.s.writeNodes()
}

// nodeCgroup is for processes on a node that belong to no pod.
func nodeCgroup(root, node string) string { return filepath.Join(root, node, "host") }

func podCgroup(root string, p *podState) string {
	return filepath.Join(root, p.Node, p.Namespace+"_"+p.Name)
}

// netnsOf is the name of the namespace that the pod's processes live in.
func (s *Sandbox) netnsOf(p *podState) string {
	if p.HostNetwork {
		return s.nodeNetns(p.Node)
	}
	return s.podNetns(p.Namespace, p.Name)
}
