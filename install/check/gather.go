package check

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/kube"
	"heddle.io/heddle/install/rollout"
)

// Facts are what the API server, the controllers and the agents say. What could
// not be asked has its error beside it.
type Facts struct {
	System  string // namespace
	Version string // of heddlectl

	Server    string
	ServerErr error

	Denied    []string
	RightsErr error

	Nodes    []kube.Node
	NodesErr error

	CRDs    map[string][]string // name -> served versions
	CRDsErr error

	SystemLabels map[string]string // nil: there is no such namespace
	Meshes       []string

	Installed  rollout.Installed
	Controller *rollout.Workload
	Agent      *rollout.Workload
	Leader     string

	Controllers []Controller
	Agents      []Agent
	AgentsErr   error
}

// A Controller is a replica and its answer.
type Controller struct {
	Pod    string
	Status *admin.ControllerStatus
	Err    error
}

// An Agent is a node's agent and its answer.
type Agent struct {
	Node   string
	Status *admin.AgentStatus
	Err    error
}

const (
	askTimeout = 10 * time.Second
	askAtOnce  = 16
)

// Gather asks everybody. It fails for nothing: what is not known is a fact too.
func Gather(ctx context.Context, pods *kube.Cluster, c *rollout.Cluster, version string) *Facts {
	f := &Facts{System: pods.System(), Version: version}
	if f.Server, f.ServerErr = c.ServerVersion(); f.ServerErr != nil {
		return f
	}
	f.Denied, f.RightsErr = c.Denied(ctx)
	f.Nodes, f.NodesErr = pods.Nodes(ctx)
	f.CRDs, f.CRDsErr = c.ServedCRDs(ctx)
	f.SystemLabels, f.Meshes = c.SystemLabels(ctx), c.Meshes(ctx)
	var err error
	if f.Installed, err = c.Look(ctx); err != nil || f.Installed.Controller == "" && f.Installed.Agent == "" {
		return f
	}
	f.Controller, f.Agent = c.Workloads(ctx)
	f.Leader = c.Leader(ctx)
	f.ask(ctx, pods)
	return f
}

// ask has every pod of Heddle tell its status.
func (f *Facts) ask(ctx context.Context, pods *kube.Cluster) {
	agents, err := pods.Agents(ctx)
	if err != nil {
		f.AgentsErr = err
		return
	}
	controllers, err := pods.Controllers(ctx)
	if err != nil {
		f.AgentsErr = err
		return
	}
	f.Agents, f.Controllers = make([]Agent, len(agents)), make([]Controller, len(controllers))
	slots := make(chan struct{}, askAtOnce)
	var running sync.WaitGroup
	each := func(p *kube.Pod, binary string, ask func(context.Context, client.Dialer) error) {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			_ = ask(ctx, func(ctx context.Context) (net.Conn, error) { return pods.Connect(ctx, p, binary, "admin") })
		})
	}
	for i := range agents {
		a, p := &f.Agents[i], &agents[i]
		if a.Node = p.Node; p.Down != "" {
			a.Err = fmt.Errorf("pod %s does not run: %s", p.Name, p.Down)
			continue
		}
		each(p, "/heddled", func(ctx context.Context, dial client.Dialer) error {
			a.Status, a.Err = client.AgentOver(p.Name, dial).Status(ctx)
			return a.Err
		})
	}
	for i := range controllers {
		r, p := &f.Controllers[i], &controllers[i]
		if r.Pod = p.Name; p.Down != "" {
			r.Err = fmt.Errorf("it does not run: %s", p.Down)
			continue
		}
		each(p, "/heddle-controller", func(ctx context.Context, dial client.Dialer) error {
			r.Status, r.Err = client.ControllerOver(p.Name, dial).Status(ctx)
			return r.Err
		})
	}
	running.Wait()
}
