package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Kubeconfig is the file for an administrator's programs. They have to run in
// the control plane's network: by Run, or with DialContext.
func (c *Cluster) Kubeconfig() string { return c.keys.kubeconfig("admin") }

// Netns is a path to the control plane's network namespace, for nsenter. It is
// good for as long as this process has the cluster.
func (c *Cluster) Netns() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.network.ns.Fd())
}

// KubectlScript is a program that is kubectl as administrator, for people: it
// enters the cluster's network first.
func (c *Cluster) KubectlScript() string { return filepath.Join(c.options.Dir, "kubectl") }

func (c *Cluster) writeKubectl() error {
	script := fmt.Sprintf("#!/bin/sh\nexec nsenter --net='%s' '%s' --kubeconfig='%s' --cache-dir='%s' \"$@\"\n",
		c.Netns(), filepath.Join(c.options.Bin, "kubectl"), c.Kubeconfig(), c.kubectlCache())
	return os.WriteFile(c.KubectlScript(), []byte(script), 0o755)
}

func (c *Cluster) kubectlCache() string { return filepath.Join(c.options.Dir, "kubectl-cache") }

// StartCommand starts a command in the control plane's network. It is killed at
// the end of the cluster, if it has not ended by itself. The caller waits for it.
func (c *Cluster) StartCommand(cmd *exec.Cmd) error { return c.thread.start(cmd) }

// Run runs a program, heddlectl for one, in the control plane's network with
// KUBECONFIG set, and returns its standard output.
func (c *Cluster) Run(ctx context.Context, name string, args ...string) (string, error) {
	return c.RunInput(ctx, nil, name, args...)
}

// RunInput is Run with something to read for the program.
func (c *Cluster) RunInput(ctx context.Context, input io.Reader, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Env = input, append(environment(), "KUBECONFIG="+c.Kubeconfig())
	out, err := c.output(cmd)
	if err != nil {
		return out, fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return out, nil
}

// Kubectl runs kubectl as administrator and returns its standard output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.KubectlInput(ctx, nil, args...)
}

// KubectlInput is Kubectl with something to read.
func (c *Cluster) KubectlInput(ctx context.Context, input io.Reader, args ...string) (string, error) {
	return c.RunInput(ctx, input, filepath.Join(c.options.Bin, "kubectl"),
		append([]string{"--cache-dir=" + c.kubectlCache()}, args...)...)
}

// Apply applies objects written in YAML.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.KubectlInput(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

// get reads a path of the API as administrator, into v unless it is nil.
func (c *Cluster) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+ControlPlane+":6443"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.keys.admin)
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %.300s", path, resp.Status, body)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(body, v)
}

func (c *Cluster) waitAPI(ctx context.Context) error {
	return c.wait(ctx, "the API server", func() error { return c.get(ctx, "/readyz", nil) })
}

func (c *Cluster) waitAccount(ctx context.Context) error {
	return c.wait(ctx, "the default service account", func() error {
		return c.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

// waitNodes waits until the API has every real node as Ready.
func (c *Cluster) waitNodes(ctx context.Context) error {
	return c.wait(ctx, "the nodes to be Ready", func() error {
		for _, n := range c.nodes {
			if err := n.ready(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// WaitReady waits until the API has the node as Ready. Right after a node was
// killed it may still be that.
func (n *Node) WaitReady(ctx context.Context) error {
	return n.cluster.wait(ctx, n.spec.Name+" to be Ready", func() error { return n.ready(ctx) })
}

func (n *Node) ready(ctx context.Context) error {
	var node struct{ Status nodeStatus }
	if err := n.cluster.get(ctx, "/api/v1/nodes/"+n.spec.Name, &node); err != nil {
		return err
	}
	if err := node.Status.ready(); err != nil {
		return fmt.Errorf("%s %w", n.spec.Name, err)
	}
	return nil
}

// A nodeStatus is what the API says of a node.
type nodeStatus struct {
	Conditions []struct{ Type, Status, Message string }
}

func (s nodeStatus) ready() error {
	for _, condition := range s.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return nil
		}
		if condition.Type == "Ready" {
			return fmt.Errorf("is not Ready: %s", condition.Message)
		}
	}
	return errors.New("has not said whether it is Ready")
}

// patience bounds the waits for something that comes in seconds where a machine
// has nothing else to do.
const patience = 3 * time.Minute

// wait repeats try until it succeeds or patience ends.
func (c *Cluster) wait(ctx context.Context, what string, try func() error) error {
	if err := poll(ctx, patience, 50*time.Millisecond, what, try); err != nil {
		return fmt.Errorf("%w (logs in %s)", err, c.Logs())
	}
	return nil
}
