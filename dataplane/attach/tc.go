package attach

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Ways to attach to an interface.
const (
	modeTCX    = "tcx"    // Linux 6.6: links, which can be pinned
	modeClsact = "clsact" // a qdisc with a filter in each direction
)

// interfaces holds the programs at the host side of pods' interfaces. An
// ifindex means nothing outside the node's network namespace, which all of this
// therefore runs in.
type interfaces struct {
	mode    string
	in, out *ebpf.Program // what the pod sends, and receives
	pins    pins
	log     *slog.Logger
	tcx     bool // the kernel has it, whether used or not

	mu       sync.Mutex
	attached map[uint32]bool // by ifindex; guarded by mu
}

// direction is one of the two hooks of an interface.
type direction struct {
	pin     string // prefix of the pin's name, before the ifindex
	hook    ebpf.AttachType
	parent  uint32 // of the clsact filter
	program *ebpf.Program
}

func (t *interfaces) directions() []direction {
	return []direction{
		{"tc_in_", ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, t.in},
		{"tc_out_", ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, t.out},
	}
}

func (d direction) pinName(ifindex uint32) string {
	return d.pin + strconv.FormatUint(uint64(ifindex), 10)
}

// interfaceOfPin returns the ifindex in a pin's name.
func interfaceOfPin(name string) (uint32, bool) {
	for _, d := range (&interfaces{}).directions() {
		if number, ok := strings.CutPrefix(name, d.pin); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

func isInterfacePin(name string) bool {
	_, ok := interfaceOfPin(name)
	return ok
}

func newInterfaces(mode string, p pins, in, out *ebpf.Program, log *slog.Logger) (*interfaces, error) {
	t := &interfaces{mode: mode, in: in, out: out, pins: p, log: log, tcx: haveTCX(in), attached: map[uint32]bool{}}
	switch mode {
	case "", "auto":
		t.mode = modeTCX
		if !t.tcx {
			t.mode = modeClsact
		}
	case modeTCX:
		if !t.tcx {
			return nil, errors.New("tcx needs Linux 6.6: choose auto or clsact")
		}
	case modeClsact:
	default:
		return nil, fmt.Errorf("unknown way to attach to interfaces %q: choose auto, tcx or clsact", mode)
	}
	return t, nil
}

// haveTCX tries an interface that does not exist: a kernel with tcx says so, a
// kernel without does not know the hook.
func haveTCX(p *ebpf.Program) bool {
	const nowhere = 1<<31 - 1
	_, err := link.AttachTCX(link.TCXOptions{Interface: nowhere, Program: p, Attach: ebpf.AttachTCXIngress})
	return !errors.Is(err, link.ErrNotSupported)
}

func (t *interfaces) feature() Feature {
	if t.mode == modeTCX {
		return Feature{modeTCX, true, "interfaces are attached to by links"}
	}
	return Feature{modeTCX, false, "interfaces are attached to by clsact filters: the kernel is older than 6.6, or clsact was chosen"}
}

// updateInterfaces puts this version's programs into force at every interface
// that an earlier agent attached to, in whichever way.
func (o *opening) updateInterfaces() error {
	t := o.tc
	t.mu.Lock()
	defer t.mu.Unlock()
	linked, err := t.pinned()
	if err != nil {
		return err
	}
	filtered, err := filteredInterfaces()
	if err != nil {
		return err
	}
	both := maps.Clone(linked)
	maps.Copy(both, filtered)
	for _, ifindex := range slices.Sorted(maps.Keys(both)) {
		if err := o.step(fmt.Sprintf("interface %d", ifindex)); err != nil {
			return err
		}
		if err := t.adoptLocked(ifindex, filtered[ifindex]); err != nil {
			return err
		}
	}
	return nil
}

// pinned returns the interfaces that have pinned links.
func (t *interfaces) pinned() (map[uint32]bool, error) {
	names, err := t.pins.names(linksDir)
	if err != nil {
		return nil, err
	}
	found := map[uint32]bool{}
	for _, name := range names {
		if ifindex, ok := interfaceOfPin(name); ok {
			found[ifindex] = true
		}
	}
	return found, nil
}

// adoptLocked attaches in this agent's way before it removes what was attached in
// the other. Pins of an interface that is gone are removed.
func (t *interfaces) adoptLocked(ifindex uint32, filtered bool) error {
	if !filtered && !t.linkedTo(ifindex) {
		t.log.Info("forgetting an interface that is gone", "ifindex", ifindex)
		return t.removeLinks(ifindex)
	}
	if err := t.attachLocked(ifindex); err != nil {
		return err
	}
	if t.mode == modeClsact {
		return t.removeLinks(ifindex)
	}
	if filtered {
		return removeFilters(ifindex)
	}
	return nil
}

// linkedTo reports whether a pinned link is still attached to the interface. An
// ifindex can be given to a new interface; the old one's links do not follow.
func (t *interfaces) linkedTo(ifindex uint32) bool {
	return slices.ContainsFunc(t.directions(), func(d direction) bool {
		l, err := openLink(t.pins.path(linksDir, d.pinName(ifindex)))
		if err != nil || l == nil {
			return false
		}
		defer l.Close()
		return atInterface(l, ifindex)
	})
}

func atInterface(l link.Link, ifindex uint32) bool {
	info, err := l.Info()
	return err == nil && info.TCX() != nil && info.TCX().Ifindex == ifindex
}

// attachLocked puts both programs into force at an interface, in place of older
// ones if there are.
func (t *interfaces) attachLocked(ifindex uint32) error {
	for _, d := range t.directions() {
		var err error
		if t.mode == modeTCX {
			err = t.attachLink(d, ifindex)
		} else {
			err = attachFilter(d, ifindex)
		}
		if err != nil {
			return err
		}
	}
	t.attached[ifindex] = true
	return nil
}

func (t *interfaces) attachLink(d direction, ifindex uint32) error {
	name := d.pinName(ifindex)
	l, err := openLink(t.pins.path(linksDir, name))
	if err != nil {
		return err
	}
	if l != nil {
		defer l.Close()
		if atInterface(l, ifindex) {
			if err := l.Update(d.program); err != nil {
				return fmt.Errorf("replace the program of %s: %w", name, err)
			}
			return nil
		}
	}
	l, err = link.AttachTCX(link.TCXOptions{
		Interface: int(ifindex), Program: d.program, Attach: d.hook, Anchor: link.Head(),
	})
	if err != nil {
		return fmt.Errorf("attach to interface %d: %w", ifindex, err)
	}
	defer l.Close()
	return t.pins.pinLink(l, name)
}

func (t *interfaces) removeLinks(ifindex uint32) error {
	var errs []error
	for _, d := range t.directions() {
		errs = append(errs, detachPinned(t.pins.path(linksDir, d.pinName(ifindex))))
	}
	return errors.Join(errs...)
}

// detachLocked lets the interface's traffic pass unseen.
func (t *interfaces) detachLocked(ifindex uint32) error {
	err := t.removeLinks(ifindex)
	if t.mode == modeClsact {
		err = errors.Join(err, removeFilters(ifindex))
	}
	if err != nil {
		return fmt.Errorf("detach from interface %d: %w", ifindex, err)
	}
	delete(t.attached, ifindex)
	return nil
}

// AttachIface attaches the floor to the host side of a pod's interface, which
// it finds in the calling thread's network namespace, and says how ("tcx" or
// "clsact"). Until hd_ifaces has an entry for the interface, nothing passes it.
// It may be called again.
func (k *Kernel) AttachIface(name string) (ifindex uint32, mode string, err error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, "", fmt.Errorf("find interface %s in the node's network namespace: %w", name, err)
	}
	ifindex = uint32(l.Attrs().Index)
	k.tc.mu.Lock()
	defer k.tc.mu.Unlock()
	if err := k.tc.attachLocked(ifindex); err != nil {
		return 0, "", fmt.Errorf("attach to interface %s: %w", name, err)
	}
	return ifindex, k.tc.mode, nil
}

// DetachIface removes the floor from an interface, which may be gone already.
// Its connections continue.
func (k *Kernel) DetachIface(ifindex uint32) error {
	k.tc.mu.Lock()
	defer k.tc.mu.Unlock()
	return k.detachLocked(ifindex)
}

// detachLocked takes the connections off the fast path before the programs go,
// and after they went those that were on their way. New ones have to stay off it
// meanwhile: with one of the two programs gone, one direction would skip the stack
// and the other not, and conntrack would drop what answers packets it never saw.
func (k *Kernel) detachLocked(ifindex uint32) error {
	return errors.Join(k.barFastPath(ifindex), k.LeaveFastPath(ifindex), k.tc.detachLocked(ifindex),
		k.LeaveFastPath(ifindex), k.flows.forgetUse(ifindex))
}

// Attached lists the interfaces with a floor, by ifindex, in ascending order.
// Some may be gone, see SweepIfaces.
func (k *Kernel) Attached() []uint32 {
	k.tc.mu.Lock()
	defer k.tc.mu.Unlock()
	return slices.Sorted(maps.Keys(k.tc.attached))
}

// SweepIfaces detaches from every interface that is gone, and from those that
// keep does not want; a nil keep wants all. It returns what it detached from.
func (k *Kernel) SweepIfaces(keep func(ifindex uint32) bool) ([]uint32, error) {
	t := k.tc
	t.mu.Lock()
	defer t.mu.Unlock()
	live := t.linkedTo
	if t.mode == modeClsact {
		filtered, err := filteredInterfaces()
		if err != nil {
			return nil, err
		}
		live = func(ifindex uint32) bool { return filtered[ifindex] }
	}
	var swept []uint32
	var errs []error
	for _, ifindex := range slices.Sorted(maps.Keys(t.attached)) {
		if live(ifindex) && (keep == nil || keep(ifindex)) {
			continue
		}
		if err := k.detachLocked(ifindex); err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, ifindex)
	}
	return swept, errors.Join(errs...)
}
