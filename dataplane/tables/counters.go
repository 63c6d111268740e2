package tables

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// Stats returns the connections by service, cluster and endpoint. The kernel
// forgets the least used ones when hd_stats is full.
func (t *Tables) Stats() (map[bpf.StatKey]bpf.StatVal, error) {
	return collect[bpf.StatKey, bpf.StatVal](t, bpf.MapStats)
}

// Refusals returns the refused connections by service and reason.
func (t *Tables) Refusals() (map[bpf.RefusalKey]uint64, error) {
	return collect[bpf.RefusalKey, uint64](t, bpf.MapRefusals)
}

func collect[K comparable, V any](t *Tables, name string) (map[K]V, error) {
	m, err := t.table(name)
	if err != nil {
		return nil, err
	}
	all := map[K]V{}
	err = each(m, func(key K, val V) bool {
		all[key] = val
		return len(all) < int(m.MaxEntries())
	})
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return all, nil
}

// Reasons returns how often each reason was the outcome, for connections and
// for packets, since the maps were created. Zeros are left out.
func (t *Tables) Reasons() (map[bpf.Reason]uint64, error) {
	m, err := t.table(bpf.MapReasons)
	if err != nil {
		return nil, err
	}
	all := map[bpf.Reason]uint64{}
	perCPU := make([]uint64, ebpf.MustPossibleCPU())
	for _, r := range bpf.Reasons() {
		if uint32(r) >= m.MaxEntries() {
			break
		}
		if err := m.Lookup(uint32(r), perCPU); err != nil {
			return nil, fmt.Errorf("map %s: read %s: %w", bpf.MapReasons, r, err)
		}
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		if sum > 0 {
			all[r] = sum
		}
	}
	return all, nil
}

// IfaceStats returns the packets and bytes by ifindex, those of connections that
// are on the fast path included.
func (t *Tables) IfaceStats() (map[uint32]bpf.IfaceStat, error) {
	m, err := t.table(bpf.MapIfStats)
	if err != nil {
		return nil, err
	}
	all := map[uint32]bpf.IfaceStat{}
	err = each(m, func(ifindex uint32, perCPU []bpf.IfaceStat) bool {
		all[ifindex] = sum(perCPU)
		return len(all) < int(m.MaxEntries())
	})
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", bpf.MapIfStats, err)
	}
	if err := t.addFast(all); err != nil {
		return nil, err
	}
	return t.atLeast(all), nil
}

// atLeast keeps counters from falling: a connection that leaves the fast path
// between two looks is in neither.
func (t *Tables) atLeast(all map[uint32]bpf.IfaceStat) map[uint32]bpf.IfaceStat {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ifindex, s := range all {
		before := t.ifaces[ifindex]
		all[ifindex] = bpf.IfaceStat{
			RxPackets: max(s.RxPackets, before.RxPackets), RxBytes: max(s.RxBytes, before.RxBytes),
			TxPackets: max(s.TxPackets, before.TxPackets), TxBytes: max(s.TxBytes, before.TxBytes),
			Dropped: max(s.Dropped, before.Dropped),
		}
	}
	t.ifaces = maps.Clone(all)
	return all
}

// addFast adds what connections on the fast path have moved so far. One that
// ends under the walk may be counted twice or not at all in this answer.
func (t *Tables) addFast(all map[uint32]bpf.IfaceStat) error {
	m, err := t.table(bpf.MapFast)
	if err != nil {
		return err
	}
	seen := 0
	err = each(m, func(_ bpf.FastKey, flow bpf.FastVal) bool {
		for i, from := range flow.End {
			to := flow.End[1-i].Ifindex
			if s, ok := all[from.Ifindex]; ok {
				s.RxPackets, s.RxBytes = s.RxPackets+from.Packets, s.RxBytes+from.Bytes
				all[from.Ifindex] = s
			}
			if s, ok := all[to]; ok {
				s.TxPackets, s.TxBytes = s.TxPackets+from.Packets, s.TxBytes+from.Bytes
				all[to] = s
			}
		}
		seen++
		return seen < int(m.MaxEntries())
	})
	if err != nil {
		return fmt.Errorf("map %s: %w", bpf.MapFast, err)
	}
	return nil
}

func sum(perCPU []bpf.IfaceStat) bpf.IfaceStat {
	var s bpf.IfaceStat
	for _, c := range perCPU {
		s.RxPackets += c.RxPackets
		s.RxBytes += c.RxBytes
		s.TxPackets += c.TxPackets
		s.TxBytes += c.TxBytes
		s.Dropped += c.Dropped
	}
	return s
}

// Ejected returns the endpoints that get no connections now, and for how long.
func (t *Tables) Ejected() (map[bpf.OutlierKey]time.Duration, error) {
	outliers, err := collect[bpf.OutlierKey, bpf.OutlierVal](t, bpf.MapOutliers)
	if err != nil {
		return nil, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("read the clock of the kernel's programs: %w", err)
	}
	left := map[bpf.OutlierKey]time.Duration{}
	for key, val := range outliers {
		if d := time.Duration(int64(val.UntilNs) - now.Nano()); d > 0 {
			left[key] = d
		}
	}
	return left, nil
}

// SweepLoads forgets the counts of clusters that keep does not want, once none of
// their connections is open: no other will be counted there.
func (t *Tables) SweepLoads(keep func(cluster uint64) bool) error {
	m, err := t.table(bpf.MapLoads)
	if err != nil {
		return err
	}
	var gone []uint64
	err = each(m, func(cluster uint64, load bpf.LoadVal) bool {
		if load.Open <= 0 && !keep(cluster) {
			gone = append(gone, cluster)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("map %s: %w", bpf.MapLoads, err)
	}
	for _, cluster := range gone {
		if err := m.Delete(cluster); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete %016x from map %s: %w", cluster, bpf.MapLoads, err)
		}
	}
	return nil
}

// SweepShares forgets the shares that are not used, of namespaces that keep
// does not want: their sockets are closed, and no other may join the bypass.
func (t *Tables) SweepShares(keep func(netns uint64) bool) error {
	m, err := t.table(bpf.MapShares)
	if err != nil {
		return err
	}
	var gone []uint64
	err = each(m, func(netns, sockets uint64) bool {
		if sockets == 0 && !keep(netns) {
			gone = append(gone, netns)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("map %s: %w", bpf.MapShares, err)
	}
	for _, netns := range gone {
		if err := m.Delete(netns); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete %d from map %s: %w", netns, bpf.MapShares, err)
		}
	}
	return nil
}
