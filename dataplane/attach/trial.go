package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"heddle.io/heddle/bpf"
)

// trialFlows is the size of a trial's table of connections.
const trialFlows = 4096

// Trial is the floor with the fast path, over small tables of its own and
// attached to nothing yet: what a self-test puts on interfaces of throwaway
// namespaces. It touches nothing that is pinned.
//
// It may be used concurrently: a self-test that was given up may still run when
// its trial is closed.
type Trial struct {
	floor *ebpf.Collection
	tcx   bool

	mu     sync.Mutex
	links  []link.Link
	closed bool
}

// errTrialOver is returned to whom a trial was taken away from.
var errTrialOver = errors.New("the trial is over: the self-test took too long")

// newTrial loads the programs of spec as they would be with the fast path on.
func newTrial(spec *ebpf.CollectionSpec, mode string) (*Trial, error) {
	spec = spec.Copy()
	if err := (bpf.Config{FastPath: true, FastShare: trialFlows}).Apply(spec); err != nil {
		return nil, err
	}
	for name, p := range spec.Programs {
		if name != bpf.ProgTCIn && name != bpf.ProgTCOut {
			delete(spec.Programs, name)
			continue
		}
		p.AttachType = ebpf.AttachNone
	}
	used := usedMaps(spec)
	for name, m := range spec.Maps {
		switch {
		case !used[name]:
			delete(spec.Maps, name)
		case m.Type != ebpf.PerCPUArray && m.MaxEntries > trialFlows:
			m.MaxEntries = trialFlows
		}
	}
	for name, v := range spec.Variables {
		if !used[v.SectionName] {
			delete(spec.Variables, name)
		}
	}
	floor, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the fast path: %w", err)
	}
	return &Trial{floor: floor, tcx: mode != modeClsact && haveTCX(floor.Programs[bpf.ProgTCIn])}, nil
}

// usedMaps names the maps that programs of spec refer to.
func usedMaps(spec *ebpf.CollectionSpec) map[string]bool {
	used := map[string]bool{}
	for _, p := range spec.Programs {
		for _, ins := range p.Instructions {
			if ins.IsLoadFromMap() {
				used[ins.Reference()] = true
			}
		}
	}
	return used
}

// Guard attaches to the host side of a pod's interface, in the calling thread's
// network namespace, and lets the pod use these addresses and the fast path.
func (t *Trial) Guard(name string, addresses ...netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s of the trial: %w", name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errTrialOver
	}
	ifindex := uint32(l.Attrs().Index)
	val := bpf.IfaceVal{Flags: bpf.IfaceFast}
	for _, a := range addresses[:min(len(addresses), bpf.MaxPodAddrs)] {
		val.Addr[val.AddrCount] = bpf.AddrFrom(a)
		val.AddrCount++
	}
	if err := t.floor.Maps[bpf.MapIfaces].Put(ifindex, val); err != nil {
		return fmt.Errorf("program interface %s of the trial: %w", name, err)
	}
	i := &interfaces{in: t.floor.Programs[bpf.ProgTCIn], out: t.floor.Programs[bpf.ProgTCOut]}
	for _, d := range i.directions() {
		if !t.tcx {
			err = attachFilter(d, ifindex)
		} else {
			var l link.Link
			if l, err = link.AttachTCX(link.TCXOptions{Interface: int(ifindex), Program: d.program, Attach: d.hook}); err == nil {
				t.links = append(t.links, l)
			}
		}
		if err != nil {
			return fmt.Errorf("attach to interface %s of the trial: %w", name, err)
		}
	}
	return nil
}

// Moved is the number of connections that took the fast path so far.
func (t *Trial) Moved() (total uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, errTrialOver
	}
	var perCPU []uint64
	if err := t.floor.Maps[bpf.MapReasons].Lookup(uint32(bpf.ReasonFastPath), &perCPU); err != nil {
		return 0, fmt.Errorf("read the trial's counters: %w", err)
	}
	for _, n := range perCPU {
		total += n
	}
	return total, nil
}

// Close detaches and releases everything.
func (t *Trial) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, l := range t.links {
		l.Close()
	}
	t.floor.Close()
}
