package attach

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// plainQdiscs do not shape, police or show packets to anybody.
var plainQdiscs = map[string]bool{"noqueue": true, "pfifo_fast": true, "fq_codel": true, "fq": true, "pfifo": true, "mq": true, "clsact": true}

// Foreign says of each interface what, other than Heddle, looks at its packets:
// a queueing discipline that shapes them, filters, programs or a switch. They
// must not skip that. The answer is empty when there is nothing, or when the
// interface is gone.
func (k *Kernel) Foreign(ifindexes []uint32) (map[uint32]string, error) {
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	found := make(map[uint32]string, len(ifindexes))
	filtered := map[uint32]bool{}
	for _, q := range qdiscs {
		ifindex, kind := uint32(q.Attrs().LinkIndex), q.Type()
		if kind == "clsact" {
			filtered[ifindex] = true
		}
		if !plainQdiscs[kind] {
			found[ifindex] = "a queueing discipline, " + kind + ", is on its interface"
		}
	}
	k.tc.mu.Lock()
	defer k.tc.mu.Unlock()
	for _, ifindex := range ifindexes {
		if found[ifindex] != "" {
			continue
		}
		if found[ifindex], err = unsuitable(ifindex); found[ifindex] == "" && err == nil {
			found[ifindex], err = k.tc.foreignLocked(ifindex, filtered[ifindex])
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// unsuitable says why packets of an interface cannot be redirected: it is no pair
// with one in a pod, or it belongs to something that is no plain bridge, as a
// virtual switch, which has rules of its own. One by one, because a list of all
// interfaces is often interrupted where pods come and go.
func unsuitable(ifindex uint32) (string, error) {
	l, err := netlink.LinkByIndex(int(ifindex))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at interface %d: %w", ifindex, err)
	}
	a := l.Attrs()
	switch {
	case l.Type() != "veth":
		return "its interface is no veth but a " + l.Type(), nil
	case a.Xdp != nil && a.Xdp.Attached:
		return "an XDP program is on its interface", nil
	case a.MasterIndex == 0:
		return "", nil
	}
	master, err := netlink.LinkByIndex(a.MasterIndex)
	switch {
	case err != nil:
		return "", fmt.Errorf("look at what interface %d belongs to: %w", ifindex, err)
	case master.Type() != "bridge":
		return "its interface belongs to a device of type " + master.Type(), nil
	}
	return "", nil
}

func (t *interfaces) foreignLocked(ifindex uint32, filtered bool) (what string, err error) {
	for _, d := range t.directions() {
		if filtered {
			what, err = foreignFilter(d, ifindex)
		}
		if what == "" && err == nil {
			what, err = t.foreignLink(d, ifindex)
		}
		if what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

func foreignFilter(d direction, ifindex uint32) (string, error) {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	filters, err := netlink.FilterList(l, d.parent)
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("list filters of interface %d: %w", ifindex, err)
	}
	own := filter(d, ifindex)
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Handle == own.Handle && b.Name == own.Name {
			continue
		}
		if f.Attrs().Handle == 0 {
			continue // the head of a chain, not a filter
		}
		return "a tc filter of type " + f.Type() + " is on its interface", nil
	}
	return "", nil
}

// foreignLink finds a tcx program that is not attached by this agent. On a
// kernel without tcx there is none.
func (t *interfaces) foreignLink(d direction, ifindex uint32) (string, error) {
	if !t.tcx {
		return "", nil
	}
	result, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: d.hook})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list tcx programs of interface %d: %w", ifindex, err)
	}
	info, err := d.program.Info()
	if err != nil {
		return "", err
	}
	own, _ := info.ID()
	for _, p := range result.Programs {
		if p.ID != own {
			return "tcx program " + programName(p.ID) + " is on its interface", nil
		}
	}
	return "", nil
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprint(id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprint(id)
	}
	return fmt.Sprintf("%s (%d)", info.Name, id)
}
