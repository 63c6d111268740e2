package hold

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The place of the filters. Heddle's own programs are at priority 1, before
// them: what those let through by TC_ACT_UNSPEC is still held.
const (
	handle   = 0x6864 // "hd"
	priority = 2
	name     = "hd_hold"
)

// parents are the two directions of an interface.
var parents = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// Put drops every packet of an interface of this network namespace, in both
// directions, from now on. It may be called again.
func Put(ifindex int) error {
	drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_SHOT)), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load a program that drops: %w", err)
	}
	defer drop.Close()
	qdisc := &netlink.Clsact{QdiscAttrs: attrs(ifindex)}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("add clsact to interface %d: %w", ifindex, err)
	}
	for _, parent := range parents {
		f := filter(ifindex, parent)
		f.Fd = drop.FD()
		if err := netlink.FilterReplace(f); err != nil {
			return fmt.Errorf("drop the packets of interface %d (needs cls_bpf of the kernel): %w", ifindex, err)
		}
	}
	return nil
}

func attrs(ifindex int) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
}

func filter(ifindex int, parent uint32) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: parent, Handle: handle, Priority: priority, Protocol: unix.ETH_P_ALL,
		},
		Fd: -1, Name: name, DirectAction: true,
	}
}

// List returns the interfaces of this network namespace that are held.
func List() (map[uint32]bool, error) {
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	held := map[uint32]bool{}
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		for _, parent := range parents {
			found, _, err := look(q.Attrs().LinkIndex, parent)
			if err != nil {
				return nil, err
			}
			if found {
				held[uint32(q.Attrs().LinkIndex)] = true
			}
		}
	}
	return held, nil
}

// look reports whether there is a filter of ours in one direction, and whether
// there are others.
func look(ifindex int, parent uint32) (ours, others bool, err error) {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	filters, err := netlink.FilterList(l, parent)
	if gone(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("list filters of interface %d: %w", ifindex, err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == name && b.Handle == handle && b.Priority == priority {
			ours = true
		} else {
			others = true
		}
	}
	return ours, others, nil
}

// Lift lets the packets pass again. The qdisc goes too when nothing else uses
// it. An interface that is not held, or gone, is no error.
func Lift(ifindex uint32) error {
	used := false
	for _, parent := range parents {
		ours, others, err := look(int(ifindex), parent)
		if err != nil {
			return err
		}
		used = used || others
		if !ours {
			continue
		}
		if err := netlink.FilterDel(filter(int(ifindex), parent)); err != nil && !gone(err) {
			return fmt.Errorf("let the packets of interface %d pass: %w", ifindex, err)
		}
	}
	if used {
		return nil
	}
	err := netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: attrs(int(ifindex))})
	if err != nil && !gone(err) {
		return fmt.Errorf("remove clsact from interface %d: %w", ifindex, err)
	}
	return nil
}

// gone is the kernel's ways to say that there is no such interface, qdisc or
// filter.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}
