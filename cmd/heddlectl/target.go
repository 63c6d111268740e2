package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/kube"
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

// A target is an agent to ask.
type target struct {
	*client.Agent
	node string // empty: only the agent knows
	pod  string // in a cluster
	down string // why it cannot be asked, where that is known beforehand
}

// A replica is a controller to ask.
type replica struct {
	*client.Controller
	pod  string // empty: no cluster
	down string
}

// targets are whom a command asks: agents and perhaps controllers.
type targets struct {
	agents      []target
	controllers []replica     // empty: none to be expected here
	cluster     *kube.Cluster // nil: not a cluster
	sandbox     *sandbox.Sandbox
}

// targets finds them. What the command line names comes first; then what is up
// on this machine, a sandbox or a node's own agent; then the cluster of the
// user's kubeconfig.
func (a *app) targets(ctx context.Context) (*targets, error) {
	inCluster, err := a.onCluster()
	if err != nil {
		return nil, err
	}
	if inCluster {
		return a.clustered(ctx)
	}
	if a.socket != "" || a.controller != "" {
		return a.named(), nil
	}
	s, err := a.box(nil)
	if err != nil {
		return nil, err
	}
	if up, err := s.IsUp(); err != nil {
		return nil, err
	} else if up {
		return a.sandboxed(s)
	}
	if a.sandbox != "" {
		return nil, &sandbox.NotUp{Name: a.sandbox}
	}
	if !exists(agentSocket) {
		return nil, errNobody
	}
	t := &targets{agents: []target{{Agent: client.NewAgent(agentSocket)}}}
	// On a node of a cluster the controller runs elsewhere.
	if exists(controllerSocket) {
		t.controllers = []replica{{Controller: client.NewController(controllerSocket)}}
	}
	return t, nil
}

var errNobody = errors.New("nobody to ask: no sandbox is up (heddlectl sandbox up), no agent runs here (" + agentSocket + "), and there is no kubeconfig (--kubeconfig, $KUBECONFIG, ~/.kube/config)")

// onCluster reports whether a command means a cluster.
func (a *app) onCluster() (bool, error) {
	switch {
	case a.socket != "" || a.controller != "" || a.sandbox != "":
		return false, nil
	case a.kube != (kube.Options{}):
		return true, nil
	}
	s, err := a.box(nil)
	if err != nil {
		return false, err
	}
	// Whoever may not look is not root, and has no use for a sandbox.
	up, err := s.IsUp()
	if up || err != nil && !kube.Configured(a.kube) {
		return false, nil
	}
	return !exists(agentSocket) && kube.Configured(a.kube), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (a *app) named() *targets {
	t := &targets{}
	if a.socket != "" {
		t.agents = []target{{Agent: client.NewAgent(a.socket)}}
	}
	if a.controller != "" {
		t.controllers = []replica{{Controller: client.NewController(a.controller)}}
	}
	return t
}

func (a *app) sandboxed(s *sandbox.Sandbox) (*targets, error) {
	t := &targets{controllers: []replica{{Controller: s.Controller()}}, sandbox: s}
	for _, node := range s.Nodes() {
		if a.node == "" || a.node == node {
			t.agents = append(t.agents, target{Agent: s.Agent(node), node: node})
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
	at    time.Time
}

// ask puts a question to every agent. What was answered is returned together
// with the error of those that did not.
func ask[T any](ctx context.Context, a *app, question func(*client.Agent, context.Context) ([]T, error)) ([]answer[T], error) {
	t, err := a.targets(ctx)
	if err != nil {
		return nil, err
	}
	return askAll(ctx, a, t, question)
}

func askAll[T any](ctx context.Context, a *app, t *targets, question func(*client.Agent, context.Context) ([]T, error)) ([]answer[T], error) {
	answers := make([]*answer[T], len(t.agents))
	errs := make([]error, len(t.agents))
	each(len(t.agents), func(i int) {
		agent := t.agents[i]
		node, err := agent.name(ctx)
		if err != nil || a.node != "" && node != a.node {
			errs[i] = err
			return
		}
		items, err := question(agent.Agent, ctx)
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", node, err)
			return
		}
		answers[i] = &answer[T]{node, items, time.Now()}
	})
	var out []answer[T]
	for _, a := range answers {
		if a != nil {
			out = append(out, *a)
		}
	}
	if err := few(errs); err != nil || len(out) > 0 {
		return out, err
	}
	if a.node == "" {
		return nil, nil
	}
	return nil, usage{fmt.Errorf("--node %s: not the node that was asked", a.node)}
}

// name is the node of an agent; it also says beforehand that nobody answers.
func (t *target) name(ctx context.Context) (string, error) {
	if t.down != "" {
		return "", &client.Unreachable{Who: "the agent", Where: t.Where(), Err: errors.New(t.down)}
	}
	if t.node != "" {
		return t.node, nil
	}
	status, err := t.Status(ctx)
	if err != nil {
		return "", err
	}
	return status.Node, nil
}

// atOnce bounds how many agents are asked at the same time.
const atOnce = 16

// each calls f for 0 to n-1, some at once.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// maxErrors bounds how many nodes complain in full.
const maxErrors = 8

// few joins the errors that are not nil, as many as can be read.
func few(errs []error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if more := len(errs) - maxErrors; more > 0 {
		errs = append(errs[:maxErrors:maxErrors], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
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
