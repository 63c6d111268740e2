package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

// Choices for Options.FastPath.
const (
	FastPathAuto = "auto" // on where the kernel has what it needs and passes the test
	FastPathOff  = "off"
)

// FastPath is the name of the feature.
const FastPath = "fast_path"

// Addresses that no node has (RFC 5737), to ask conntrack about.
var (
	nobody  = netip.MustParseAddrPort("192.0.2.1:1")
	nowhere = netip.MustParseAddrPort("192.0.2.2:1")
)

// fastShare is the part of hd_fast that connections of one pod may take up.
const fastShare = 8

// fastPathFeature decides whether packets between pods may skip the stack here.
func (o *opening) fastPathFeature() Feature {
	off := func(format string, args ...any) Feature {
		return Feature{FastPath, false, "packets between pods of the node take the network stack: " + fmt.Sprintf(format, args...)}
	}
	switch o.FastPath {
	case FastPathOff:
		return off("switched off (--fast-path=off)")
	case "", FastPathAuto:
	default:
		return off("unknown choice %q, choose auto or off", o.FastPath)
	}
	trial, err := newTrial(o.spec, o.TC)
	if errors.Is(err, ebpf.ErrNotSupported) || err != nil && strings.Contains(err.Error(), "unknown kfunc") {
		return off("the kernel lacks functions of conntrack (%v): it needs Linux 6.0 and nf_conntrack; if that is a module, run modprobe nf_conntrack and restart the agent", err)
	}
	if err != nil {
		return off("%v", err)
	}
	defer trial.Close()
	if err := probeConntrack(); err != nil {
		return off("%v: run modprobe nf_conntrack_netlink and restart the agent", err)
	}
	if o.SelfTest == nil {
		return Feature{FastPath, true, "packets between pods of the node skip the network stack"}
	}
	switch noticed, err := o.SelfTest(trial); {
	case err != nil:
		return off("the self-test could not be made: %v", err)
	case noticed != "":
		return off("the self-test found that applications would notice; it is repeated after the next boot, or when self-test.json is removed from the state directory and the agent restarted: %s", noticed)
	}
	return Feature{FastPath, true, "packets between pods of the node skip the network stack; the self-test found no difference to TCP without it"}
}

// on reports whether a feature that was decided is on.
func on(features []Feature, name string) bool {
	return slices.ContainsFunc(features, func(f Feature) bool { return f.Name == name && f.On })
}

// leaveFastPath lets connections that an earlier agent put on the fast path
// continue on the stack, when this one has it off. It runs before the programs
// change, for as many connections as possible, and after, for those that came
// meanwhile.
func (o *opening) leaveFastPath() error {
	if on(o.features, FastPath) {
		return nil
	}
	n, err := o.flows().prepare(everyFlow)
	if n > 0 {
		o.Log.Info("connections leave the fast path", "connections", n)
	}
	if err != nil {
		o.Log.Warn("conntrack cannot be told of connections that leave the fast path; some may stall", "error", err)
	}
	return nil
}

// sweepFastPath forgets them, and with the fast path on those of interfaces that
// went away while no agent ran. What cannot be ended is harmless with the fast path
// off, and swept again later with it on.
func (o *opening) sweepFastPath() error {
	selected := everyFlow
	if on(o.features, FastPath) {
		selected = func(v bpf.FastVal) bool {
			return !o.tc.attached[v.End[0].Ifindex] || !o.tc.attached[v.End[1].Ifindex]
		}
	}
	if err := o.flows().end(selected); err != nil {
		o.Log.Warn("connections cannot be swept off the fast path", "error", err)
	}
	return nil
}

func everyFlow(bpf.FastVal) bool { return true }

// flowsOf selects the connections of an interface.
func flowsOf(ifindex uint32) func(bpf.FastVal) bool {
	return func(v bpf.FastVal) bool { return v.End[0].Ifindex == ifindex || v.End[1].Ifindex == ifindex }
}

func (o *opening) flows() flows {
	f := flows{program: o.programs[bpf.ProgFastEnd]}
	for _, t := range o.tables {
		switch t.name {
		case bpf.MapFast:
			f.table = t.now
		case bpf.MapFastUse:
			f.use = t.now
		}
	}
	return f
}

// flows takes connections off the fast path. Conntrack has not seen their
// packets for a while, so it would drop what comes next as invalid. It is told
// first to be lenient with them.
type flows struct {
	table, use *ebpf.Map     // hd_fast, hd_fast_use
	program    *ebpf.Program // hd_fast_end
}

// prepare makes conntrack lenient with the connections that are selected, and
// returns how many there are.
func (f flows) prepare(selected func(bpf.FastVal) bool) (int, error) {
	found, err := f.list(selected)
	if len(found) == 0 {
		return 0, err
	}
	conntrack, openErr := openConntrack()
	if openErr != nil {
		return len(found), errors.Join(err, openErr)
	}
	defer conntrack.close()
	failed := &failures{}
	failed.add(err)
	for _, flow := range found {
		failed.add(conntrack.tolerate(flow.client, flow.server))
	}
	return len(found), failed.err()
}

// end takes the connections that are selected off the fast path, each after
// conntrack was told, as far as it could be. After an error the caller tries
// again.
func (f flows) end(selected func(bpf.FastVal) bool) error {
	found, err := f.list(selected)
	if len(found) == 0 {
		return err
	}
	conntrack, openErr := openConntrack()
	if openErr == nil {
		defer conntrack.close()
	}
	failed := &failures{}
	failed.add(err)
	failed.add(openErr)
	for _, flow := range found {
		if openErr == nil {
			failed.add(conntrack.tolerate(flow.client, flow.server))
		}
		failed.add(bpf.EndFast(f.program, flow.key))
	}
	return failed.err()
}

// failures keeps the first error of many alike, and how many there were.
type failures struct {
	first error
	count int
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	if f.count++; f.count == 1 {
		f.first = err
	}
}

func (f *failures) err() error {
	if f.count > 1 {
		return fmt.Errorf("%w (and %d more errors)", f.first, f.count-1)
	}
	return f.first
}

// flow is an element of hd_fast.
type flow struct {
	key            bpf.FastKey
	val            bpf.FastVal
	client, server netip.AddrPort
}

func (f flows) list(selected func(bpf.FastVal) bool) ([]flow, error) {
	var found []flow
	var key bpf.FastKey
	var val bpf.FastVal
	it := f.table.Iterate()
	for it.Next(&key, &val) {
		if !selected(val) {
			continue
		}
		client := val.Client & 1
		end := func(i uint32) netip.AddrPort {
			return netip.AddrPortFrom(bpf.AddrOf(key.Addr[i]), bpf.Port(key.PortBe[i]))
		}
		found = append(found, flow{key, val, end(client), end(1 - client)})
		if len(found) == int(f.table.MaxEntries()) {
			break
		}
	}
	// A connection that ended under the walk may have cut it short. The caller
	// tries again.
	if err := it.Err(); err != nil {
		return found, fmt.Errorf("map %s: %w", bpf.MapFast, err)
	}
	return found, nil
}

// barFastPath keeps new connections of an interface off the fast path, until its
// entry is written again.
func (k *Kernel) barFastPath(ifindex uint32) error {
	var val bpf.IfaceVal
	ifaces := k.maps[bpf.MapIfaces]
	err := ifaces.Lookup(ifindex, &val)
	if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && val.Flags&bpf.IfaceFast == 0 {
		return nil
	}
	if err == nil {
		val.Flags &^= bpf.IfaceFast
		err = ifaces.Update(ifindex, val, ebpf.UpdateExist)
	}
	if err != nil {
		return fmt.Errorf("keep connections of interface %d off the fast path, in map %s: %w", ifindex, bpf.MapIfaces, err)
	}
	return nil
}

// LeaveFastPath lets the fast connections of an interface, which may be gone,
// continue on the stack.
func (k *Kernel) LeaveFastPath(ifindex uint32) error {
	if err := k.flows.end(flowsOf(ifindex)); err != nil {
		return fmt.Errorf("take connections of interface %d off the fast path: %w", ifindex, err)
	}
	return nil
}

// forgetUse removes the share of an interface that has no programs any more, and
// so no connections on the fast path.
func (f flows) forgetUse(ifindex uint32) error {
	if err := f.use.Delete(ifindex); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove interface %d from map %s: %w", ifindex, bpf.MapFastUse, err)
	}
	return nil
}

// FastConnections is how many connections are on the fast path now.
func (k *Kernel) FastConnections() (int, error) {
	var ifindex uint32
	var opened, sum uint64
	it := k.flows.use.Iterate()
	for it.Next(&ifindex, &opened) {
		sum += opened
	}
	if err := it.Err(); err != nil {
		return 0, fmt.Errorf("map %s: %w", bpf.MapFastUse, err)
	}
	return int(sum), nil
}

// HasFastPath reports whether packets between pods may skip the stack.
func (k *Kernel) HasFastPath() bool { return on(k.features, FastPath) }
