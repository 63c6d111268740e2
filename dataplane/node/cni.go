package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/cni"
	"heddle.io/heddle/dataplane/cni/plugin"
	"heddle.io/heddle/dataplane/disk"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/hold"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// Names of what the CNI plugin needs, beside the admin socket.
const (
	cniSocket = "cni.sock"
	cniPolicy = "cni.json"
)

func (c *Config) cniSocket() string { return filepath.Join(filepath.Dir(c.adminPath()), cniSocket) }
func (c *Config) cniPolicy() string { return filepath.Join(filepath.Dir(c.adminPath()), cniPolicy) }

// openCNI opens the socket that the plugin speaks on. The chain itself is kept
// once that is served.
func (n *Node) openCNI(ctx context.Context) error {
	var err error
	if n.cni, err = admin.Listen(ctx, n.c.cniSocket()); err != nil {
		return err
	}
	if n.c.CNIConfDir == "" {
		return nil
	}
	n.chain, err = cni.New(cni.Options{
		ConfDir: n.c.CNIConfDir, BinDir: n.c.CNIBinDir, Binary: n.c.CNIPlugin,
		Socket: n.c.cniSocket(), Policy: n.c.cniPolicy(), Log: n.c.Log,
	})
	return err
}

// keepPolicy tells the plugin what becomes of pods while there is no agent.
func (l *loop) keepPolicy(want state.PodStart) {
	path := l.n.c.cniPolicy()
	if l.policy != nil && l.policy.Equal(want) {
		if _, err := os.Lstat(path); err == nil {
			return
		}
	}
	p := plugin.Policy{WhenAgentDown: plugin.Wait, ExemptNamespaces: want.Exempt}
	if want.Drop {
		p.WhenAgentDown = plugin.Drop
	}
	data, err := p.Encode()
	if err == nil {
		err = disk.Put(path, data)
	}
	if err != nil {
		l.broken = append(l.broken, plan.Problem{Object: "file " + path, Reason: "PodStartNotWritten",
			Detail: fmt.Sprintf("%v; it is tried again, and pods that start while the agent is down wait for it", err)})
		return
	}
	l.policy = &want
}

// lift lets the packets of pods pass that the CNI plugin has held back while it
// had no answer: once they are programmed, or known to be outside the mesh.
func (l *loop) lift(members []member) {
	l.findHeld(members)
	for i := range members {
		m := &members[i]
		decided := m.Standing == enroll.Outside || m.Standing == enroll.Enrolled && m.mode != "" && l.programmed(m)
		if !decided || !l.held[m.Ifindex] {
			continue
		}
		if err := hold.Lift(m.Ifindex); err != nil {
			l.broken = append(l.broken, plan.Problem{Object: "Pod " + m.Key(), Reason: "PodHeld",
				Detail: err.Error() + "; its traffic is dropped until then, and it is tried again"})
			continue
		}
		l.n.c.Log.Info("pod was held back until now", "pod", m.Key(), "interface", m.Interface)
		delete(l.held, m.Ifindex)
	}
}

// findHeld looks for interfaces that are held, when a pod's standing has changed
// or a check asked for it.
func (l *loop) findHeld(members []member) {
	standings := make(map[uint32]enroll.Standing, len(members))
	for _, m := range members {
		standings[m.Ifindex] = m.Standing
	}
	if l.held != nil && maps.Equal(standings, l.standings) {
		return
	}
	held, err := hold.List()
	if err != nil {
		l.n.c.Log.Warn("interfaces that are held back cannot be listed; it is tried again", "error", err)
		return
	}
	l.held, l.standings = held, standings
}

// removeCNI takes the plugin out of the runtime's directories and lets every pod
// that was held back pass.
func removeCNI(c *Config, r *report) {
	if c.CNIConfDir != "" {
		do := cni.Remove
		if r.check {
			do = cni.Left
		}
		r.add(do(c.CNIConfDir, c.CNIBinDir))
	}
	held, err := hold.List()
	r.add(nil, err)
	for _, ifindex := range slices.Sorted(maps.Keys(held)) {
		r.remove(fmt.Sprintf("drop filters of interface %d", ifindex), func() error { return hold.Lift(ifindex) })
	}
}

// removeFiles removes what the agent keeps outside of the kernel.
func removeFiles(c *Config, r *report) {
	for _, path := range []string{c.cniPolicy(), c.cniPolicy() + ".new", c.cniSocket(), c.adminPath(), c.StateDir} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		r.remove(path, func() error { return os.RemoveAll(path) })
	}
}
