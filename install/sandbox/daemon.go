package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// startLimit is how long a daemon has to answer on its socket. An agent tests the
// kernel first.
const startLimit = time.Minute

// daemon is the controller or the agent of a node.
type daemon struct {
	name string // "controller" or the node: also the log's name
	who  string // for messages
	launch
	answers func(context.Context) error
}

func (x *session) controller(binary string) daemon {
	s := x.s
	return daemon{
		name: "controller", who: "heddle-controller",
		launch: launch{
			// On no node: it stays in the machine's own network namespace,
			// of which it uses nothing.
			cgroup: filepath.Join(x.root, "controller"),
			argv: append([]string{
				binary,
				"--source=dir:" + s.ObjectsDir(),
				"--listen=unix://" + s.xdsSocket(),
				"--admin=unix://" + s.ControllerSocket(),
				"--state-dir=" + filepath.Join(s.opt.Dir, "controller"),
			}, s.opt.ControllerArgs...),
		},
		answers: func(ctx context.Context) error {
			_, err := s.Controller().Status(ctx)
			return err
		},
	}
}

func (x *session) agent(node, binary string) daemon {
	s := x.s
	home := filepath.Join(s.opt.Dir, node)
	return daemon{
		name: node, who: "heddled of " + node,
		launch: launch{
			netns: s.nodeNetns(node), cgroup: filepath.Join(x.root, node, "heddle"),
			argv: append([]string{
				binary, "agent",
				"--node=" + node,
				"--server=unix://" + s.xdsSocket(),
				"--cgroup=" + filepath.Join(x.root, node),
				"--pins=" + filepath.Join(s.pinsRoot(), node),
				"--admin=unix://" + s.AgentSocket(node),
				"--state-dir=" + filepath.Join(home, "state"),
			}, s.opt.AgentArgs...),
		},
		answers: func(ctx context.Context) error {
			_, err := s.Agent(node).Status(ctx)
			return err
		},
	}
}

// run starts a daemon and waits until it answers. record gets the process
// before the wait, so that it is known however the wait ends.
func (x *session) run(ctx context.Context, d daemon, record func(*state, *Process)) error {
	d.log = x.s.daemonLog(d.name)
	d.path = x.s.searchPath()
	d.env = []string{"PATH=" + d.path}
	d.dir = x.s.opt.Dir
	if err := os.MkdirAll(filepath.Join(x.s.opt.Dir, d.name), 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", d.who, err)
	}
	if err := makeCgroup(d.cgroup); err != nil {
		return err
	}
	p, err := d.start()
	if err != nil {
		return err
	}
	if err := x.update(func(st *state) { record(st, &p.Process) }); err != nil {
		return err
	}
	var last error
	err = poll(ctx, startLimit, 5*time.Millisecond, func() bool {
		last = d.answers(ctx)
		return last == nil || !p.Alive()
	})
	switch {
	case last == nil:
		return nil
	case !p.Alive():
		return fmt.Errorf("%s ended: %s", d.who, tail(d.log))
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s does not answer after %s (%w): %s", d.who, startLimit, last, tail(d.log))
	}
	return nil
}

func (x *session) ensureController(ctx context.Context) error {
	if x.st.Controller.Alive() {
		return nil
	}
	binary, err := x.s.binary("heddle-controller")
	if err != nil {
		return err
	}
	if err := x.run(ctx, x.controller(binary), func(st *state, p *Process) { st.Controller = p }); err != nil {
		return err
	}
	x.s.progress("controller is up (objects from %s)", x.s.ObjectsDir())
	return nil
}

func (x *session) ensureAgents(ctx context.Context) error {
	binary, err := x.s.binary("heddled")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if x.st.Nodes[n.name].Agent.Alive() {
			continue
		}
		if err := x.runAgent(ctx, n.name, binary); err != nil {
			return err
		}
		x.s.progress("agent of %s is up (%s, pods %s)", n.name, n.zone, n.podNets()[0])
	}
	return nil
}

func (x *session) runAgent(ctx context.Context, node, binary string) error {
	return x.run(ctx, x.agent(node, binary), func(st *state, p *Process) { st.Nodes[node].Agent = p })
}

// AgentProcess is the agent of a node as it was last started; nil: never.
func (s *Sandbox) AgentProcess(node string) (*Process, error) {
	st, err := s.read()
	if err != nil {
		return nil, err
	}
	n := st.Nodes[node]
	if n == nil {
		return nil, noNode(node)
	}
	return n.Agent, nil
}

// ControllerProcess is the controller as it was last started; nil: never.
func (s *Sandbox) ControllerProcess() (*Process, error) {
	st, err := s.read()
	if err != nil {
		return nil, err
	}
	return st.Controller, nil
}

// StopAgent sends a signal to a node's agent and waits for its end.
func (s *Sandbox) StopAgent(ctx context.Context, node string, sig syscall.Signal) error {
	p, err := s.AgentProcess(node)
	if err != nil {
		return err
	}
	return stop(ctx, p, sig, "agent of "+node)
}

// StopController sends a signal to the controller and waits for its end.
func (s *Sandbox) StopController(ctx context.Context, sig syscall.Signal) error {
	p, err := s.ControllerProcess()
	if err != nil {
		return err
	}
	return stop(ctx, p, sig, "controller")
}

func stop(ctx context.Context, p *Process, sig syscall.Signal, what string) error {
	if !p.Alive() {
		return nil
	}
	if err := p.Signal(sig); err != nil {
		return err
	}
	if err := poll(ctx, startLimit, 2*time.Millisecond, func() bool { return !p.Alive() }); err != nil {
		return fmt.Errorf("the %s does not end on %s: %w", what, sig, err)
	}
	return nil
}

// StartAgent starts a node's agent if it does not run, and waits until it
// answers. binary "" is the usual one; a test of an upgrade gives another.
func (s *Sandbox) StartAgent(ctx context.Context, node, binary string) error {
	if findNode(node) == nil {
		return noNode(node)
	}
	return s.startDaemon(ctx, "heddled", binary, func(x *session, binary string) error {
		if x.st.Nodes[node].Agent.Alive() {
			return nil
		}
		return x.runAgent(ctx, node, binary)
	})
}

// StartController starts the controller if it does not run, and waits until it
// answers. binary "" is the usual one.
func (s *Sandbox) StartController(ctx context.Context, binary string) error {
	return s.startDaemon(ctx, "heddle-controller", binary, func(x *session, binary string) error {
		if x.st.Controller.Alive() {
			return nil
		}
		return x.run(ctx, x.controller(binary), func(st *state, p *Process) { st.Controller = p })
	})
}

func (s *Sandbox) startDaemon(ctx context.Context, name, binary string, run func(*session, string) error) error {
	if binary == "" {
		var err error
		if binary, err = s.binary(name); err != nil {
			return err
		}
	}
	x, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	return run(x, binary)
}

func noNode(name string) error {
	return fmt.Errorf("no node %q: the sandbox has %s and %s", name, nodes[0].name, nodes[1].name)
}
