package nettest

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TrackConnections makes a namespace follow the connections that it forwards,
// as a node with kube-proxy does: a packet that belongs to none is dropped.
//
//	table inet heddle_test {
//		chain forward { type filter hook forward priority 0; ct state invalid drop; }
//	}
//
// It is written as messages because some machines that run tests have no nft.
func (n *NS) TrackConnections(t testing.TB) {
	t.Helper()
	n.Do(t, func() { track(t) })
}

// TrackConnections is [NS.TrackConnections] for the process's namespace, until
// the test ends.
func TrackConnections(t testing.TB) {
	t.Helper()
	track(t)
	t.Cleanup(func() {
		table := []*nl.RtAttr{name(unix.NFTA_TABLE_NAME, rulesTable)}
		if err := writeRules([]message{{unix.NFT_MSG_DELTABLE, 0, table}}); err != nil {
			t.Errorf("take the rules back: %v", err)
		}
	})
}

func track(t testing.TB) {
	t.Helper()
	if err := writeRules(trackingRules()); err != nil {
		t.Fatalf("write the rules of a node with connection tracking: %v", err)
	}
}

// Connections returns the IPv4 TCP connections that the calling thread's
// namespace follows and that are established: closed in neither direction.
func Connections(t testing.TB) (established []*netlink.ConntrackFlow) {
	t.Helper()
	const stateEstablished = 3 // TCP_CONNTRACK_ESTABLISHED
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatalf("list the connections that are tracked: %v", err)
	}
	for _, f := range flows {
		if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && tcp.State == stateEstablished {
			established = append(established, f)
		}
	}
	return established
}

// From include/uapi/linux/netfilter and netfilter/nf_tables.h.
const (
	inet         = 1  // NFPROTO_INET: both families
	subsystem    = 10 // NFNL_SUBSYS_NFTABLES
	batchBegin   = 16 // NFNL_MSG_BATCH_BEGIN
	batchEnd     = 17
	hookForward  = 2 // NF_INET_FORWARD
	register     = 1 // NFT_REG_1
	verdict      = 0 // NFT_REG_VERDICT
	drop         = 0 // NF_DROP
	stateInvalid = 1 // of NFT_CT_STATE, in the machine's byte order
	rulesTable   = "heddle_test"
	rulesChain   = "forward"
)

// message is one of nftables, with its attributes.
type message struct {
	kind  int
	flags uint16
	attrs []*nl.RtAttr
}

func trackingRules() []message {
	hook := nest(unix.NFTA_CHAIN_HOOK,
		number(unix.NFTA_HOOK_HOOKNUM, hookForward), number(unix.NFTA_HOOK_PRIORITY, 0))
	state := binary.NativeEndian.AppendUint32(nil, stateInvalid)
	none := make([]byte, len(state))
	invalid := nest(unix.NFTA_RULE_EXPRESSIONS,
		expression("ct", number(unix.NFTA_CT_DREG, register), number(unix.NFTA_CT_KEY, unix.NFT_CT_STATE)),
		expression("bitwise",
			number(unix.NFTA_BITWISE_SREG, register), number(unix.NFTA_BITWISE_DREG, register),
			number(unix.NFTA_BITWISE_LEN, uint32(len(state))),
			nest(unix.NFTA_BITWISE_MASK, nl.NewRtAttr(unix.NFTA_DATA_VALUE, state)),
			nest(unix.NFTA_BITWISE_XOR, nl.NewRtAttr(unix.NFTA_DATA_VALUE, none))),
		expression("cmp",
			number(unix.NFTA_CMP_SREG, register), number(unix.NFTA_CMP_OP, unix.NFT_CMP_NEQ),
			nest(unix.NFTA_CMP_DATA, nl.NewRtAttr(unix.NFTA_DATA_VALUE, none))),
		expression("immediate", number(unix.NFTA_IMMEDIATE_DREG, verdict),
			nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, number(unix.NFTA_VERDICT_CODE, drop)))),
	)
	return []message{
		{unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, []*nl.RtAttr{name(unix.NFTA_TABLE_NAME, rulesTable)}},
		{unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, []*nl.RtAttr{
			name(unix.NFTA_CHAIN_TABLE, rulesTable), name(unix.NFTA_CHAIN_NAME, rulesChain),
			name(unix.NFTA_CHAIN_TYPE, "filter"), hook,
		}},
		{unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, []*nl.RtAttr{
			name(unix.NFTA_RULE_TABLE, rulesTable), name(unix.NFTA_RULE_CHAIN, rulesChain), invalid,
		}},
	}
}

// Attributes: a number in network byte order, a name, others inside, and an
// expression of a rule.
func number(kind int, value uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.BEUint32Attr(value)) }
func name(kind int, text string) *nl.RtAttr    { return nl.NewRtAttr(kind, nl.ZeroTerminated(text)) }

func nest(kind int, inside ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
	for _, i := range inside {
		a.AddChild(i)
	}
	return a
}

func expression(kind string, attrs ...*nl.RtAttr) *nl.RtAttr {
	return nest(unix.NFTA_LIST_ELEM, name(unix.NFTA_EXPR_NAME, kind), nest(unix.NFTA_EXPR_DATA, attrs...))
}

// writeRules sends messages as one transaction and waits until each is
// acknowledged.
func writeRules(messages []message) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		return err
	}
	batch := frame(batchBegin, 0, 0, subsystem, nil)
	for i, m := range messages {
		batch = append(batch, frame(subsystem<<8|m.kind, unix.NLM_F_ACK|m.flags, uint32(i+1), 0, m.attrs)...)
	}
	batch = append(batch, frame(batchEnd, 0, 0, subsystem, nil)...)
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return acknowledged(fd, len(messages))
}

// frame is a message with the headers of netlink and of its netfilter part.
func frame(kind int, flags uint16, sequence uint32, resource uint16, attrs []*nl.RtAttr) []byte {
	const headers = unix.SizeofNlMsghdr + nl.SizeofNfgenmsg
	out := make([]byte, headers)
	for _, a := range attrs {
		out = append(out, a.Serialize()...)
	}
	family := uint8(inet)
	if attrs == nil {
		family = unix.AF_UNSPEC
	}
	binary.NativeEndian.PutUint32(out[0:], uint32(len(out)))
	binary.NativeEndian.PutUint16(out[4:], uint16(kind))
	binary.NativeEndian.PutUint16(out[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(out[8:], sequence)
	out[unix.SizeofNlMsghdr] = family
	binary.BigEndian.PutUint16(out[unix.SizeofNlMsghdr+2:], resource)
	return out
}

func acknowledged(fd, messages int) error {
	buf := make([]byte, 64<<10)
	for messages > 0 {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return fmt.Errorf("nftables does not answer: %w", err)
		}
		answers, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, a := range answers {
			if a.Header.Type != unix.NLMSG_ERROR {
				return fmt.Errorf("nftables answers with a message of type %d", a.Header.Type)
			}
			if errno := int32(binary.NativeEndian.Uint32(a.Data)); errno != 0 {
				return fmt.Errorf("nftables refuses message %d: %w: is it built into the kernel, or its modules loaded?", a.Header.Seq, unix.Errno(-errno))
			}
			messages--
		}
	}
	return nil
}
