package main

import (
	"context"
	"fmt"
	"net"

	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/kube"
)

// cluster is the cluster that the command line means. Nothing is sent yet.
func (a *app) cluster() (*kube.Cluster, error) {
	config, err := kube.Config(a.kube)
	if err != nil {
		return nil, usage{err}
	}
	return kube.Open(config, a.system)
}

// clustered finds the agents and controllers of a cluster: of --node alone when
// it is given.
func (a *app) clustered(ctx context.Context) (*targets, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	t := &targets{cluster: c}
	if a.node != "" {
		pod, err := c.AgentOn(ctx, a.node)
		if err != nil {
			return nil, err
		}
		t.agents = []target{agentIn(c, pod)}
		return t, nil
	}
	agents, err := c.Agents(ctx)
	if err != nil {
		return nil, err
	}
	controllers, err := c.Controllers(ctx)
	if err != nil {
		return nil, err
	}
	if len(agents)+len(controllers) == 0 {
		return nil, fmt.Errorf("no pods of Heddle in namespace %s of %s: install it (heddlectl install), or name its namespace (--system-namespace)", c.System(), c.Server())
	}
	for i := range agents {
		t.agents = append(t.agents, agentIn(c, &agents[i]))
	}
	for i := range controllers {
		t.controllers = append(t.controllers, controllerIn(c, &controllers[i]))
	}
	return t, nil
}

// agentIn asks an agent through a program in its pod.
func agentIn(c *kube.Cluster, pod *kube.Pod) target {
	dial := func(ctx context.Context) (net.Conn, error) { return c.Connect(ctx, pod, "/heddled", "admin") }
	return target{Agent: client.AgentOver(place(pod), dial), node: pod.Node, pod: pod.Name, down: pod.Down}
}

func controllerIn(c *kube.Cluster, pod *kube.Pod) replica {
	dial := func(ctx context.Context) (net.Conn, error) {
		return c.Connect(ctx, pod, "/heddle-controller", "admin")
	}
	return replica{Controller: client.ControllerOver(place(pod), dial), pod: pod.Name, down: pod.Down}
}

func place(pod *kube.Pod) string {
	where := "pod " + pod.Namespace + "/" + pod.Name
	if pod.Node != "" {
		where += " of node " + pod.Node
	}
	return where
}
