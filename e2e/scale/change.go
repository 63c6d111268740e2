package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"heddle.io/heddle/api/admin"
)

// Change is one change and what it took.
type Change struct {
	Kind      string  `json:"kind"`
	Wall      float64 `json:"wallSeconds"` // from the new file to the last map operation
	CPU       Usage   `json:"cpuSeconds"`  // until the window ended
	Ops       uint64  `json:"mapOperations"`
	Responses uint64  `json:"responses"` // that the interested node took
	Bytes     uint64  `json:"streamBytes"`
	Resources uint64  `json:"resourcesSent"` // to all nodes
	Encoded   uint64  `json:"resourcesEncoded"`

	// What the node that does not need the change saw of it: all must be 0.
	BystanderOps       uint64 `json:"bystanderMapOperations"`
	BystanderResponses uint64 `json:"bystanderResponses"`
	BystanderBytes     uint64 `json:"bystanderStreamBytes"`
}

// counters are those of everybody at one moment.
type counters struct {
	agent, other     *admin.AgentStatus
	agentOf, otherOf admin.ConnectedNode // as the controller has them
	controller       *admin.ControllerStatus
}

func (m *mesh) counters(ctx context.Context) (counters, error) {
	var c counters
	var errs [5]error
	c.agent, errs[0] = m.Agent(interested).Status(ctx)
	c.other, errs[1] = m.Agent(bystander).Status(ctx)
	c.agentOf, errs[2] = m.node(ctx, interested)
	c.otherOf, errs[3] = m.node(ctx, bystander)
	c.controller, errs[4] = m.Controller().Status(ctx)
	return c, errors.Join(errs[:]...)
}

// maxWindows is how many windows a change may take, on a machine that has other
// things to do.
const maxWindows = 20

// change makes one change and waits for its window to end: nobody is asked
// anything meanwhile, so that answers cost nothing of what is counted.
func (m *mesh) change(ctx context.Context, e edit, window time.Duration) (Change, error) {
	c := Change{Kind: e.kind}
	before, err := m.counters(ctx)
	if err != nil {
		return c, err
	}
	fresh := filepath.Join(m.Dir(), ".new")
	if err := os.WriteFile(fresh, []byte(e.text), 0o600); err != nil {
		return c, err
	}
	used, err := m.cpu()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := os.Rename(fresh, filepath.Join(m.ObjectsDir(), e.file)); err != nil {
		return c, err
	}
	var after counters
	for waited := 0; after.agent == nil || after.agent.Plan.Batches == before.agent.Plan.Batches; waited++ {
		if waited == maxWindows {
			return c, fmt.Errorf("it is not in the kernel after %s", time.Since(began))
		}
		if err := pause(ctx, window); err != nil {
			return c, err
		}
		now, err := m.cpu()
		if err != nil {
			return c, err
		}
		c.CPU = now.minus(used)
		if after, err = m.counters(ctx); err != nil {
			return c, err
		}
	}
	c.Wall = after.agent.Plan.Applied.Sub(began).Seconds()
	c.count(before, after)
	return c, nil
}

func (c *Change) count(before, after counters) {
	c.Ops = after.agent.Plan.Ops - before.agent.Plan.Ops
	c.Responses = after.agentOf.Acks - before.agentOf.Acks
	c.Bytes = after.agentOf.Bytes - before.agentOf.Bytes
	c.Resources = after.controller.Sent - before.controller.Sent
	c.Encoded = after.controller.Encoded - before.controller.Encoded
	c.BystanderOps = after.other.Plan.Ops - before.other.Plan.Ops
	c.BystanderResponses = after.otherOf.Acks - before.otherOf.Acks
	c.BystanderBytes = after.otherOf.Bytes - before.otherOf.Bytes
}
