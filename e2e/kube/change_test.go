package kube

import (
	"context"
	"fmt"
	"testing"
	"time"

	"heddle.io/heddle/e2e/cluster"
)

// changes replaces, kills and restarts everything that is not a pod of the
// users, each under the same traffic.
func (m *mesh) changes() {
	m.shop(50, 50)
	ctx := context.WithoutCancel(m.t.Context())
	for _, change := range []struct {
		name string
		run  func(m *mesh)
	}{
		{"upgrade", func(m *mesh) { m.heddlectl("upgrade", "--version="+nextVersion) }},
		{"agent crash loop", (*mesh).crashLoop},
		{"controller rollout", func(m *mesh) {
			m.kubectl("rollout", "restart", "-n", system, "deployment/heddle-controller")
			m.rolledOut(system, "deployment/heddle-controller")
		}},
		{"API server restart", func(m *mesh) { m.must(m.Restart(ctx, cluster.APIServer)) }},
		{"CNI configuration overwritten", (*mesh).overwriteConflist},
	} {
		m.t.Run(change.name, func(t *testing.T) {
			m := m.in(t)
			s := m.storm(port(m.addresses("web")[0], 80), 500, 50)
			pause(ctx, time.Second)
			change.run(m)
			pause(ctx, 2*time.Second)
			s.end()
		})
	}
}

// crashLoop kills every agent again and again, until the kubelet lets it wait
// before the next start.
func (m *mesh) crashLoop() {
	ctx := context.WithoutCancel(m.t.Context())
	killed := make(map[string]int)
	m.eventually("every agent is killed three times", func() error {
		pause(ctx, time.Second)
		enough := true
		for _, n := range m.Nodes() {
			if _, err := n.Exec(ctx, "pkill", "-KILL", "-x", "heddled"); err == nil { // else it waits
				killed[n.Name()]++
			}
			enough = enough && killed[n.Name()] >= 3
		}
		if !enough {
			return fmt.Errorf("killed so far: %v", killed)
		}
		return nil
	})
	m.rolledOut(system, "daemonset/heddle-agent")
}

// conflist is the node's own network configuration.
const conflist = "/etc/cni/net.d/10-e2e.conflist"

// overwriteConflist does what other plugins' installers do: write the file anew,
// without Heddle. A pod that starts right after is in the mesh all the same.
func (m *mesh) overwriteConflist() {
	ctx := context.WithoutCancel(m.t.Context())
	for i, n := range m.Nodes() {
		_, err := n.Exec(ctx, "sh", "-c", `tr -d '\n' <`+conflist+` | sed 's/,[^{]*{[^{}]*"heddle-cni"[^{}]*}//' >`+conflist+`.new && mv `+conflist+`.new `+conflist)
		m.must(err)
		name := fmt.Sprintf("overwritten-%d", i)
		c := m.dial(name, n.Name(), "{}", port(m.addresses("web")[0], 80), 50)
		m.eventually("pod "+name+" is enrolled", func() error {
			if got, err := m.enrolled(name); err != nil || got != 1 {
				return fmt.Errorf("enrolled %d: %v", got, err)
			}
			return nil
		})
		m.whole(name, c.stop(), 1)
		m.eventually("the chain of "+n.Name()+" is repaired", func() error {
			_, err := n.Exec(ctx, "grep", "-q", "heddle-cni", conflist)
			return err
		})
	}
}
