package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"syscall"
)

// Cmd is a command inside a pod or on a node: in its network namespace and its
// cgroup, with its environment. Use it like an exec.Cmd.
type Cmd struct {
	*exec.Cmd
	netns, cgroup string
}

// Command prepares a command in a pod, as `kubectl exec` does. It is killed
// when the context ends.
func (s *Sandbox) Command(ctx context.Context, namespace, name string, argv ...string) (*Cmd, error) {
	st, err := s.read()
	if err != nil {
		return nil, err
	}
	p := st.Pods[namespace+"/"+name]
	if p == nil {
		return nil, noPod(namespace+"/"+name, s.opt.Name)
	}
	root, err := s.cgroupRoot()
	if err != nil {
		return nil, err
	}
	env, dir := p.Env, p.Dir
	if len(env) == 0 { // its processes were never started
		env, dir = []string{"PATH=" + s.searchPath(), "HOSTNAME=" + p.Name}, s.opt.Dir
	}
	return s.prepare(ctx, argv, env, dir, s.netnsOf(p), podCgroup(root, p))
}

// NodeCommand prepares a command on a node, in no pod.
func (s *Sandbox) NodeCommand(ctx context.Context, node string, argv ...string) (*Cmd, error) {
	if findNode(node) == nil {
		return nil, noNode(node)
	}
	if _, err := s.read(); err != nil {
		return nil, err
	}
	root, err := s.cgroupRoot()
	if err != nil {
		return nil, err
	}
	env := []string{"PATH=" + s.searchPath(), "HOSTNAME=" + node, "HOME=/root"}
	return s.prepare(ctx, argv, env, s.opt.Dir, s.nodeNetns(node), nodeCgroup(root, node))
}

func (s *Sandbox) prepare(ctx context.Context, argv, env []string, dir, netns, cgroup string) (*Cmd, error) {
	if len(argv) == 0 {
		return nil, fmt.Errorf("no command given")
	}
	file, err := lookPath(argv[0], s.searchPath())
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", argv[0], err)
	}
	cmd := exec.CommandContext(ctx, file, argv[1:]...)
	cmd.Args, cmd.Env, cmd.Dir = argv, env, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return &Cmd{cmd, netns, cgroup}, nil
}

// Start starts the command inside the pod.
func (c *Cmd) Start() error { return startIn(c.Cmd, c.netns, c.cgroup) }

// Run starts the command inside the pod and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is Run with the standard output; a failure carries what the command
// wrote to standard error.
func (c *Cmd) Output() ([]byte, error) {
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w: %s", c.Args[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// CombinedOutput is Run with standard output and standard error together.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
