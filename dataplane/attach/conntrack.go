package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// conntrack is a socket to the connection tracking of the network namespace
// that it was opened in. It is used by one goroutine.
type conntrack struct{ socket *nl.SocketHandle }

// From include/uapi/linux/netfilter: what the library does not name.
const (
	subsystemCTNetlink   = 1 // NFNL_SUBSYS_CTNETLINK
	ctProtoinfoTCP       = 1
	ctTCPFlagsOriginal   = 4
	ctTCPFlagsReply      = 5
	tcpFlagBeLiberal     = 8 // IP_CT_TCP_FLAG_BE_LIBERAL
	conntrackReplyBudget = 5 // seconds that the kernel may take for an answer
)

func openConntrack() (*conntrack, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a socket to conntrack: %w", err)
	}
	timeout := unix.Timeval{Sec: conntrackReplyBudget}
	if err := s.SetReceiveTimeout(&timeout); err != nil {
		s.Close()
		return nil, fmt.Errorf("open a socket to conntrack: %w", err)
	}
	return &conntrack{&nl.SocketHandle{Socket: s}}, nil
}

func (c *conntrack) close() { c.socket.Close() }

// tolerate makes conntrack accept packets of a TCP connection whatever their
// sequence numbers. A connection that it does not know is no error.
func (c *conntrack) tolerate(client, server netip.AddrPort) error {
	if err := c.change(client, server, lenient()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("make conntrack lenient with %s to %s, which leaves the fast path: %w", client, server, err)
	}
	return nil
}

// refresh starts the time anew after which conntrack forgets a connection that
// it hears nothing of. A connection that it does not know is no error.
func (c *conntrack) refresh(client, server netip.AddrPort, timeout time.Duration) error {
	attribute := nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(uint32(timeout.Seconds())))
	if err := c.change(client, server, attribute); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("refresh %s to %s in conntrack: %w", client, server, err)
	}
	return nil
}

// lenient is the flag that makes conntrack so in both directions.
func lenient() *nl.RtAttr {
	info := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_PROTOINFO, nil)
	tcp := info.AddRtAttr(unix.NLA_F_NESTED|ctProtoinfoTCP, nil)
	flags := []byte{tcpFlagBeLiberal, tcpFlagBeLiberal} // flags, mask
	tcp.AddRtAttr(ctTCPFlagsOriginal, flags)
	tcp.AddRtAttr(ctTCPFlagsReply, flags)
	return info
}

// change sets an attribute of a TCP connection in the default zone.
func (c *conntrack) change(client, server netip.AddrPort, attribute *nl.RtAttr) error {
	req := nl.NewNetlinkRequest(subsystemCTNetlink<<8|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: c.socket}
	family := uint8(unix.AF_INET)
	source, destination := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if client.Addr().Is6() {
		family = unix.AF_INET6
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})

	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(source, client.Addr().AsSlice())
	ip.AddRtAttr(destination, server.Addr().AsSlice())
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP})
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(client.Port()))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(server.Port()))
	req.AddData(tuple)
	req.AddData(attribute)

	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// probeConntrack finds out whether conntrack can be told about connections. It
// asks for one that cannot exist.
func probeConntrack() error {
	c, err := openConntrack()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.change(nobody, nowhere, lenient()); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("conntrack cannot be told about connections (answer: %v)", err)
	}
	return nil
}

// Settings of conntrack, of the calling thread's network namespace.
const (
	conntrackCount       = "/proc/sys/net/netfilter/nf_conntrack_count"
	conntrackEstablished = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"
)

// conntrackSetting is 0 when it cannot be read: there is no conntrack.
func conntrackSetting(name string) int {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// Tracking reports whether conntrack is in use on the node.
func (k *Kernel) Tracking() bool { return conntrackSetting(conntrackCount) > 0 }
