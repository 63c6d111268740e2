package attach

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A clsact filter is recognised by its place and its name. It comes first, so
// that it sees packets as the pod sent them.
const (
	filterHandle   = 0x6864 // "hd"
	filterPriority = 1
	filterPrefix   = "hd_"
)

// attachFilter puts a program into force in one direction. The kernel replaces
// a filter with the same handle in one step.
func attachFilter(d direction, ifindex uint32) error {
	if err := netlink.QdiscAdd(clsact(ifindex)); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("add clsact to interface %d: %w", ifindex, err)
	}
	if err := netlink.FilterReplace(filter(d, ifindex)); err != nil {
		return fmt.Errorf("attach a clsact filter to interface %d: %w", ifindex, err)
	}
	return nil
}

func clsact(ifindex uint32) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: int(ifindex), Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

func filter(d direction, ifindex uint32) *netlink.BpfFilter {
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: int(ifindex), Parent: d.parent,
			Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: -1, Name: filterPrefix + d.pin[:len(d.pin)-1], DirectAction: true,
	}
	if d.program != nil {
		f.Fd = d.program.FD()
	}
	return f
}

// filteredInterfaces returns the interfaces of this network namespace that have
// a filter of Heddle.
func filteredInterfaces() (map[uint32]bool, error) {
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	found := map[uint32]bool{}
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		ifindex := uint32(q.Attrs().LinkIndex)
		for _, d := range (&interfaces{}).directions() {
			ours, err := hasFilter(d, ifindex)
			if err != nil {
				return nil, err
			}
			if ours {
				found[ifindex] = true
			}
		}
	}
	return found, nil
}

func hasFilter(d direction, ifindex uint32) (bool, error) {
	f, err := findFilter(d, ifindex)
	return f != nil, err
}

// findFilter returns Heddle's filter in one direction, nil when there is none.
func findFilter(d direction, ifindex uint32) (*netlink.BpfFilter, error) {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	filters, err := netlink.FilterList(l, d.parent)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil // gone meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("list filters of interface %d: %w", ifindex, err)
	}
	want := filter(d, ifindex)
	for _, f := range filters {
		if f, ok := f.(*netlink.BpfFilter); ok && f.Handle == want.Handle && f.Name == want.Name {
			return f, nil
		}
	}
	return nil, nil
}

// filterPrograms adds the programs that are attached by filters.
func filterPrograms(ids map[ebpf.ProgramID]bool) error {
	filtered, err := filteredInterfaces()
	if err != nil {
		return err
	}
	for ifindex := range filtered {
		for _, d := range (&interfaces{}).directions() {
			f, err := findFilter(d, ifindex)
			if err != nil {
				return err
			}
			if f != nil {
				ids[ebpf.ProgramID(f.Id)] = true
			}
		}
	}
	return nil
}

// removeQdisc removes an interface's clsact when nothing uses it any more. Who
// added it cannot be told.
func removeQdisc(ifindex uint32) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	for _, d := range (&interfaces{}).directions() {
		filters, err := netlink.FilterList(l, d.parent)
		if err != nil || len(filters) > 0 {
			return nil // gone, or in use
		}
	}
	err := netlink.QdiscDel(clsact(ifindex))
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove clsact from interface %d: %w", ifindex, err)
	}
	return nil
}

// removeFilters removes Heddle's filters. The qdisc stays: others may use it,
// and without filters it does nothing.
func removeFilters(ifindex uint32) error {
	var errs []error
	for _, d := range (&interfaces{}).directions() {
		ours, err := hasFilter(d, ifindex)
		if err == nil && ours {
			err = netlink.FilterDel(filter(d, ifindex))
		}
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
