package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/sandbox"
)

// The nodes of the sandbox: base.yaml puts a pod of the mesh on one of them.
const (
	interested = "node1"
	bystander  = "node2"
)

// mesh is the sandbox with the cluster in it.
type mesh struct {
	*sandbox.Sandbox
	world *world

	controller, agent, other process
}

// Usage is what the processes used of the processor, in seconds.
type Usage struct {
	Controller float64 `json:"controller"`
	Agent      float64 `json:"agent"`
	Bystander  float64 `json:"bystander"`
}

func (u Usage) minus(v Usage) Usage {
	return Usage{u.Controller - v.Controller, u.Agent - v.Agent, u.Bystander - v.Bystander}
}

func (m *mesh) cpu() (Usage, error) {
	var u Usage
	for to, p := range map[*float64]process{&u.Controller: m.controller, &u.Agent: m.agent, &u.Bystander: m.other} {
		d, err := p.cpu()
		if err != nil {
			return u, err
		}
		*to = d.Seconds()
	}
	return u, nil
}

// find learns which processes run.
func (m *mesh) find() error {
	c, err := m.ControllerProcess()
	if err != nil {
		return err
	}
	if m.controller, err = findProcess(c.PID, m.ControllerSocket()); err != nil {
		return err
	}
	for node, to := range map[string]*process{interested: &m.agent, bystander: &m.other} {
		p, err := m.AgentProcess(node)
		if err != nil {
			return err
		}
		if *to, err = findProcess(p.PID, m.AgentSocket(node)); err != nil {
			return err
		}
	}
	return nil
}

// Cold is a start with nothing in the kernel, and no state on disk.
type Cold struct {
	Wall    float64 `json:"wallSeconds"` // from before the start of the controller to the last map operation
	CPU     Usage   `json:"cpuSeconds"`  // from the start of each process until then
	Settled Usage   `json:"cpuSettledSeconds"`
	Ops     uint64  `json:"mapOperations"`
	Bytes   uint64  `json:"streamBytes"`
}

// Waiting for the state to be in force. Asking costs the agent little, and
// the end is the time that the agent says.
const (
	askEvery   = 20 * time.Millisecond
	coldLimit  = 3 * time.Minute
	settleTime = 3 * time.Second // the cache is on disk by then
)

// cold takes everything away, writes the cluster's files and starts the
// controller and the agents.
func (m *mesh) cold(ctx context.Context) (Cold, error) {
	var c Cold
	if err := m.prepare(ctx); err != nil {
		return c, err
	}
	before, err := m.cpu() // of the processes that ended: the cgroups are the same
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := m.StartController(ctx, ""); err != nil {
		return c, err
	}
	for _, node := range []string{interested, bystander} {
		if err := m.StartAgent(ctx, node, ""); err != nil {
			return c, err
		}
	}
	if err := m.find(); err != nil {
		return c, err
	}
	status, err := m.await(ctx, interested, coldLimit, func(s *admin.AgentStatus) bool {
		return s.Services == len(m.world.services) && s.Endpoints >= len(m.world.services)*m.world.endpoints
	})
	if err != nil {
		return c, err
	}
	now, err := m.cpu()
	if err != nil {
		return c, err
	}
	c.CPU = now.minus(before)
	c.Wall, c.Ops = status.Plan.Applied.Sub(began).Seconds(), status.Plan.Ops
	if err := pause(ctx, settleTime); err != nil {
		return c, err
	}
	if now, err = m.cpu(); err != nil {
		return c, err
	}
	c.Settled = now.minus(before)
	n, err := m.node(ctx, interested)
	c.Bytes = n.Bytes
	return c, err
}

// prepare leaves a sandbox whose processes are stopped, with the files of the
// cluster, and nothing else that an earlier start left.
func (m *mesh) prepare(ctx context.Context) error {
	if err := m.Down(ctx); err != nil {
		return err
	}
	if err := m.Up(ctx); err != nil {
		return err
	}
	if err := m.find(); err != nil {
		return err
	}
	if err := m.StopController(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	for _, node := range []string{interested, bystander} {
		if err := m.StopAgent(ctx, node, syscall.SIGKILL); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(m.Dir(), node, "state")); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(m.Dir(), "controller")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(m.Dir(), "controller"), 0o700); err != nil {
		return err
	}
	for name, text := range m.world.files() {
		if err := os.WriteFile(filepath.Join(m.ObjectsDir(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// await asks an agent until what it says is as wanted.
func (m *mesh) await(ctx context.Context, node string, limit time.Duration, wanted func(*admin.AgentStatus) bool) (*admin.AgentStatus, error) {
	deadline := time.Now().Add(limit)
	for {
		status, err := m.Agent(node).Status(ctx)
		if err != nil {
			return nil, err
		}
		if wanted(status) {
			return status, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the agent of %s has %d services and %d endpoints after %s, plan %+v; problems: %v",
				node, status.Services, status.Endpoints, limit, status.Plan, status.Problems)
		}
		if err := pause(ctx, askEvery); err != nil {
			return nil, err
		}
	}
}

// node is what the controller says of a node.
func (m *mesh) node(ctx context.Context, name string) (admin.ConnectedNode, error) {
	s, err := m.Controller().Status(ctx)
	if err != nil {
		return admin.ConnectedNode{}, err
	}
	for _, n := range s.Nodes {
		if n.Node == name {
			return n, nil
		}
	}
	return admin.ConnectedNode{}, fmt.Errorf("node %s has no stream", name)
}

// idle is what the processes use while nothing changes, in seconds of each
// second.
func (m *mesh) idle(ctx context.Context, d time.Duration) (Usage, error) {
	before, err := m.cpu()
	if err != nil {
		return Usage{}, err
	}
	began := time.Now()
	if err := pause(ctx, d); err != nil {
		return Usage{}, err
	}
	after, err := m.cpu()
	used, seconds := after.minus(before), time.Since(began).Seconds()
	return Usage{used.Controller / seconds, used.Agent / seconds, used.Bystander / seconds}, err
}

// MemoryUse is the memory of everything at one moment.
type MemoryUse struct {
	Controller Memory      `json:"controller"`
	Agent      Memory      `json:"agent"`
	Bystander  Memory      `json:"bystander"`
	Maps       []admin.Map `json:"maps"` // of the interested node
}

// mapBytes is what the kernel charges for all maps.
func (u *MemoryUse) mapBytes() uint64 {
	var sum uint64
	for _, m := range u.Maps {
		sum += m.Bytes
	}
	return sum
}

func (m *mesh) memory(ctx context.Context) (MemoryUse, error) {
	var u MemoryUse
	for to, p := range map[*Memory]process{&u.Controller: m.controller, &u.Agent: m.agent, &u.Bystander: m.other} {
		var err error
		if *to, err = p.memory(ctx); err != nil {
			return u, err
		}
	}
	var err error
	u.Maps, err = m.Agent(interested).Maps(ctx)
	return u, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
