package attach

import (
	"time"

	"heddle.io/heddle/bpf"
)

const (
	// A connection that one end has closed, and that nothing moves on, is given up
	// after this time: its first end may be gone without anybody having seen it.
	// If it is not, it continues on the stack.
	halfClosedIdle = time.Minute
	// Conntrack hears of a busy connection this often in the time after which
	// it would forget it.
	refreshes = 4
)

// sight is a connection on the fast path as a sweep saw it.
type sight struct {
	packets   uint64    // of both directions
	moved     time.Time // when that last changed
	refreshed time.Time // when conntrack last heard of it
}

// SweepFastPath looks at the connections on the fast path. Those of interfaces
// that are not permitted any more leave it, and so do those that are half
// closed and idle, which would otherwise take up their client's share for good.
// Conntrack is told of those that are busy, before it forgets them. It is
// called again and again, by one goroutine, and remembers what it saw.
func (k *Kernel) SweepFastPath(now time.Time, permitted func(ifindex uint32) bool) error {
	every, err := k.flows.list(everyFlow)
	failed := &failures{}
	failed.add(err)
	if len(every) == 0 {
		k.seen, k.swept = nil, err == nil
		return failed.err()
	}
	conntrack, err := openConntrack()
	if err != nil {
		return err
	}
	defer conntrack.close()
	timeout := time.Duration(conntrackSetting(conntrackEstablished)) * time.Second
	seen := make(map[bpf.FastKey]sight, len(every))
	for _, f := range every {
		s, known := k.seen[f.key]
		if !known {
			s.moved = now
			if k.swept {
				s.refreshed = now // it is new, and not only to this process
			}
		}
		if packets := f.val.End[0].Packets + f.val.End[1].Packets; packets != s.packets {
			s.packets, s.moved = packets, now
		}
		idle := f.val.Closing != 0 && now.Sub(s.moved) >= halfClosedIdle
		if idle || !permitted(f.val.End[0].Ifindex) || !permitted(f.val.End[1].Ifindex) {
			failed.add(conntrack.tolerate(f.client, f.server))
			failed.add(bpf.EndFast(k.flows.program, f.key))
			continue
		}
		if timeout > 0 && s.moved.After(s.refreshed) && now.Sub(s.refreshed) >= timeout/refreshes {
			failed.add(conntrack.refresh(f.client, f.server, timeout))
			s.refreshed = now
		}
		seen[f.key] = s
	}
	k.seen, k.swept = seen, true
	return failed.err()
}
