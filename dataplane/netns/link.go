package netns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostSide finds the other end of the interface called name in the network
// namespace at path: in the caller's namespace, where the host side of a pod's
// interface is. host is empty when the interface is not one end of such a pair:
// the other side of a macvlan, ipvlan or hardware interface is everybody's.
//
// The kernel is asked, not the result of a CNI plugin: plugins differ in what
// they list there, and behind a bridge the first host interface is the bridge.
func HostSide(path, name string) (host string, index int, err error) {
	var inner netlink.Link
	err = Do(path, func() error {
		if inner, err = netlink.LinkByName(name); err != nil {
			return fmt.Errorf("interface %s in network namespace %s: %w", name, path, err)
		}
		return nil
	})
	if err != nil || inner.Type() != "veth" || inner.Attrs().ParentIndex == 0 {
		return "", 0, err
	}
	outer, err := netlink.LinkByIndex(inner.Attrs().ParentIndex)
	if err != nil {
		return "", 0, fmt.Errorf("host side of interface %s in network namespace %s: %w", name, path, err)
	}
	// A number means nothing without its namespace: both ends must name each
	// other, and the end that a pod cannot make must name the pod's namespace.
	// A pod may have made a pair of its own that has the numbers of another's.
	if outer.Type() != "veth" || outer.Attrs().ParentIndex != inner.Attrs().Index {
		return "", 0, nil
	}
	there, err := leadsTo(outer, path)
	if err != nil || !there {
		return "", 0, err
	}
	return outer.Attrs().Name, outer.Attrs().Index, nil
}

// leadsTo reports whether the other end of an interface is in the network
// namespace at path.
func leadsTo(l netlink.Link, path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	id, err := netlink.GetNetNsIdByFd(fd)
	if err != nil {
		return false, fmt.Errorf("number of network namespace %s: %w", path, err)
	}
	return id >= 0 && id == l.Attrs().NetNsID, nil
}

// Holder returns the name of the interface in the network namespace at path that
// has one of these addresses, and all addresses of global scope that it has.
// The name is empty when there is none.
func Holder(path string, addresses []netip.Addr) (name string, has []netip.Addr, err error) {
	err = Do(path, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list interfaces of network namespace %s: %w", path, err)
		}
		for _, l := range links {
			all, err := global(l)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(all, func(a netip.Addr) bool { return slices.Contains(addresses, a) }) {
				name, has = l.Attrs().Name, all
				return nil
			}
		}
		return nil
	})
	return name, has, err
}

func global(l netlink.Link) ([]netip.Addr, error) {
	list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of interface %s: %w", l.Attrs().Name, err)
	}
	var out []netip.Addr
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && a.Scope == int(netlink.SCOPE_UNIVERSE) {
			out = append(out, ip.Unmap())
		}
	}
	return out, nil
}
