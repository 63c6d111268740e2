package hold

import (
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/nettest"
)

// rig is a node with one pod that talks to it.
type rig struct {
	t    *testing.T
	node *nettest.NS
	pod  *nettest.Pod
	at   uint32
}

func newRig(t *testing.T) *rig {
	t.Helper()
	nettest.RequireRoot(t)
	node := nettest.Netns(t)
	pod := node.Pod(t, "veth1", "10.1.0.2", "fd00::2")
	return &rig{t, node, pod, node.Ifindex(t, "veth1")}
}

// heard reports whether a datagram from the pod arrives at the node. What is
// not dropped is there at once: the interfaces are joined.
func (r *rig) heard() bool {
	r.t.Helper()
	var l net.PacketConn
	r.node.Do(r.t, func() {
		var err error
		if l, err = net.ListenPacket("udp4", "169.254.1.1:0"); err != nil {
			r.t.Fatal(err)
		}
	})
	defer l.Close()
	r.pod.Do(r.t, func() {
		c, err := net.Dial("udp4", l.LocalAddr().String())
		if err != nil {
			r.t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte("x"))
	})
	_ = l.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	_, _, err := l.ReadFrom(make([]byte, 8))
	return err == nil
}

func (r *rig) held() bool {
	r.t.Helper()
	var all map[uint32]bool
	r.node.Do(r.t, func() {
		var err error
		if all, err = List(); err != nil {
			r.t.Fatal(err)
		}
	})
	return all[r.at]
}

func (r *rig) do(fn func() error) {
	r.t.Helper()
	r.node.Do(r.t, func() {
		if err := fn(); err != nil {
			r.t.Fatal(err)
		}
	})
}

func (r *rig) qdiscs() int {
	r.t.Helper()
	n := 0
	r.do(func() error {
		all, err := netlink.QdiscList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(r.at)}})
		for _, q := range all {
			if q.Type() == "clsact" {
				n++
			}
		}
		return err
	})
	return n
}

func TestHoldDropsUntilLifted(t *testing.T) {
	r := newRig(t)
	if !r.heard() || r.held() {
		t.Fatal("a pod that nobody holds is not heard, or counts as held")
	}
	for range 2 { // again is no error
		r.do(func() error { return Put(int(r.at)) })
	}
	if r.heard() || !r.held() {
		t.Error("a pod that is held is heard, or does not count as held")
	}
	for range 2 {
		r.do(func() error { return Lift(r.at) })
	}
	if !r.heard() || r.held() {
		t.Error("a pod that was let go is not heard, or still counts as held")
	}
	if n := r.qdiscs(); n != 0 {
		t.Errorf("%d qdiscs stay behind", n)
	}
}

func TestLiftLeavesWhatIsOfOthers(t *testing.T) {
	r := newRig(t)
	r.do(func() error { return Put(int(r.at)) })
	r.do(func() error {
		held, err := netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(r.at)}}, netlink.HANDLE_MIN_EGRESS)
		if err != nil {
			return err
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(held[0].(*netlink.BpfFilter).Id))
		if err != nil {
			return err
		}
		defer p.Close()
		f := filter(int(r.at), netlink.HANDLE_MIN_EGRESS)
		f.Handle, f.Priority, f.Protocol, f.Name, f.Fd = 7, 9, unix.ETH_P_ARP, "other", p.FD()
		return netlink.FilterAdd(f)
	})
	r.do(func() error { return Lift(r.at) })
	if r.held() || r.qdiscs() != 1 {
		t.Errorf("held %v, %d qdiscs; the other's filter must stay", r.held(), r.qdiscs())
	}
	r.pod.Unlink(t, "eth0")
	r.do(func() error { return Lift(r.at) })
}
