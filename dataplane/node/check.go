package node

import (
	"fmt"
	"time"

	"heddle.io/heddle/dataplane/plan"
)

// check compares the machine with what the agent believes of it: pods whose
// interface is gone are dropped, interfaces are attached again, and tables
// that somebody else changed are repaired. It returns when to check again. The
// round of reconcile that follows acts on what it found.
func (l *loop) check() time.Duration {
	start := time.Now()
	l.n.pods.Sweep()
	if swept, err := l.n.kernel.SweepIfaces(nil); err != nil {
		l.n.c.Log.Warn("interfaces that are gone cannot be let go", "error", err)
	} else if len(swept) > 0 {
		l.n.c.Log.Info("interfaces are gone", "ifindexes", swept)
	}
	clear(l.modes) // attach to all of them again
	l.stale = true // and look at who else does
	l.held = nil   // and at who holds packets back
	l.sweepFastPath()
	l.checkTables()
	l.checkBypass()
	l.sweepLoads()
	return max(checkEvery, checkShare*time.Since(start))
}

// sweepLoads forgets what was counted for clusters that are gone.
func (l *loop) sweepLoads() {
	err := l.n.tables.SweepLoads(func(cluster uint64) bool { _, stays := l.current.Clusters[cluster]; return stays })
	if err != nil {
		l.n.c.Log.Warn("counts of clusters that are gone cannot be swept", "error", err)
	}
}

func (l *loop) checkTables() {
	if l.index == nil {
		return // nothing was applied yet
	}
	found, err := l.n.tables.Read()
	if err != nil {
		l.n.c.Log.Warn("tables cannot be read", "error", err)
		return
	}
	ops := plan.Diff(found, l.current)
	if len(ops) == 0 {
		if l.drift != nil && time.Since(l.drift.at) > driftShown {
			l.drift = nil
		}
		return
	}
	l.drift = &drift{at: time.Now(), detail: fmt.Sprintf(
		"%d entries of the kernel's tables were not what was applied and were repaired, the first by: %s. Something else writes to the maps; find it with bpftool or the audit log",
		len(ops), ops[0].Text(l.index.Name))}
	l.n.c.Log.Error("tables drifted", "detail", l.drift.detail)
	l.n.metrics.Drifted()
	l.current = found // reconcile plans from here
}

// drifted is the problem that the last repair left behind.
func (l *loop) drifted() []plan.Problem {
	if l.drift == nil {
		return nil
	}
	return []plan.Problem{{Object: "kernel tables", Reason: "TablesDrifted", Detail: l.drift.detail}}
}
