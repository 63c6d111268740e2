package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/sandbox"
)

const (
	agentSocket      = "/run/heddle/agent.sock"
	controllerSocket = "/run/heddle/controller.sock"
)

// box is a handle on the sandbox that the command line means.
func (a *app) box(progress func(string)) (*sandbox.Sandbox, error) {
	// Servers are often installed where only root's PATH reaches.
	path := a.env("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	opt := sandbox.Options{Name: a.sandbox, Dir: a.sandboxDir, Path: path, Progress: progress}
	// Our own directory first: that is where a build puts all binaries.
	if self, err := os.Executable(); err == nil {
		opt.Bin = filepath.Dir(self)
	}
	s, err := sandbox.New(opt)
	if err != nil {
		return nil, usage{err}
	}
	return s, nil
}

// targets are whom a command asks: agents and perhaps a controller.
type targets struct {
	agents     []*client.Agent
	controller *client.Controller // nil: none to be expected here
}

// targets finds them: those that were named, else a sandbox that is up, else
// this node's own.
func (a *app) targets() (*targets, error) {
	if a.socket != "" || a.controller != "" {
		return a.named()
	}
	s, err := a.box(nil)
	if err != nil {
		return nil, err
	}
	up, err := s.IsUp()
	if err != nil {
		return nil, err
	}
	switch {
	case up:
		return a.sandboxed(s)
	case a.sandbox != "":
		return nil, &sandbox.NotUp{Name: a.sandbox}
	}
	t := &targets{agents: []*client.Agent{client.NewAgent(agentSocket)}}
	// On a node of a cluster the controller runs elsewhere.
	if _, err := os.Stat(controllerSocket); err == nil {
		t.controller = client.NewController(controllerSocket)
	}
	return t, nil
}

func (a *app) named() (*targets, error) {
	t := &targets{}
	if a.socket != "" {
		t.agents = append(t.agents, client.NewAgent(a.socket))
	}
	if a.controller != "" {
		t.controller = client.NewController(a.controller)
	}
	return t, nil
}

func (a *app) sandboxed(s *sandbox.Sandbox) (*targets, error) {
	t := &targets{controller: s.Controller()}
	for _, node := range s.Nodes() {
		if a.node == "" || a.node == node {
			t.agents = append(t.agents, s.Agent(node))
		}
	}
	if len(t.agents) == 0 {
		return nil, usage{fmt.Errorf("--node %s: the sandbox has %s", a.node, strings.Join(s.Nodes(), " and "))}
	}
	return t, nil
}

// answer is what one node said to a question.
type answer[T any] struct {
	Node  string `json:"node"`
	Items []T    `json:"items"`
}

// ask puts a question to every agent. What was answered is returned together
// with the error of those that did not.
func ask[T any](ctx context.Context, a *app, question func(*client.Agent, context.Context) ([]T, error)) ([]answer[T], error) {
	t, err := a.targets()
	if err != nil {
		return nil, err
	}
	var out []answer[T]
	var errs []error
	for _, agent := range t.agents {
		status, err := agent.Status(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if a.node != "" && status.Node != a.node {
			continue
		}
		items, err := question(agent, ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", status.Node, err))
			continue
		}
		out = append(out, answer[T]{status.Node, items})
	}
	if len(out) == 0 && len(errs) == 0 {
		return nil, usage{fmt.Errorf("--node %s: not the node that was asked", a.node)}
	}
	return out, errors.Join(errs...)
}

// split takes "namespace/name" apart; a name alone is in the namespace of -n.
func (a *app) split(ref string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(ref, "/")
	if !ok {
		namespace, name = a.namespace, ref
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usage{fmt.Errorf("%q: write NAME or NAMESPACE/NAME", ref)}
	}
	return namespace, name, nil
}
