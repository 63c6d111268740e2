package bpf

import (
	"encoding/binary"
	"net/netip"
)

// What the maps hold; src/types.h explains every field. Fields named …Be are
// big-endian as stored: use PortBE and Port. Pad fields must be zero.
type (
	Addr         = heddleAddr
	PodVal       = heddlePodVal
	ServiceKey   = heddleServiceKey
	ServiceVal   = heddleServiceVal
	ServiceFlag  = heddleServiceFlag
	Column       = heddleColumn
	SplitVal     = heddleSplitVal
	ClusterVal   = heddleClusterVal
	ClusterFlag  = heddleClusterFlag
	LoadVal      = heddleLoadVal
	OutlierKey   = heddleOutlierKey
	OutlierVal   = heddleOutlierVal
	EndpointKey  = heddleEndpointKey
	EndpointVal  = heddleEndpointVal
	MemberKey    = heddleMemberKey
	MemberVal    = heddleMemberVal
	AffinityKey  = heddleAffinityKey
	AffinityVal  = heddleAffinityVal
	ConnVal      = heddleConnVal
	ConnFlag     = heddleConnFlag
	Peer         = heddlePeer
	PeersVal     = heddlePeersVal
	FlowKey      = heddleFlowKey
	FlowVal      = heddleFlowVal
	StatKey      = heddleStatKey
	StatVal      = heddleStatVal
	RefusalKey   = heddleRefusalKey
	IfaceVal     = heddleIfaceVal
	IfaceStat    = heddleIfaceStat
	IfaceFlag    = heddleIfaceFlag
	FastKey      = heddleFastKey
	FastEnd      = heddleFastEnd
	FastVal      = heddleFastVal
	EndedVal     = heddleEndedVal
	HandshakeVal = heddleHandshakeVal
	ConnectIn    = heddleConnectIn
	ConnectOut   = heddleConnectOut
	Verdict      = heddleVerdict
	Reason       = heddleReason
	SockKey      = heddleSockKey
	BypassVal    = heddleBypassVal
	CreditVal    = heddleCreditVal
	PodFlag      = heddlePodFlag
	Way          = heddleWay
)

// Sizes of the arrays inside values.
const (
	MaxColumns  = len(SplitVal{}.Column)
	MaxPodAddrs = len(IfaceVal{}.Addr)
	MaxPeers    = len(PeersVal{}.Peer)
)

// None stands for "there was no draw" in ConnectOut.Column and Index.
const None = ^uint32(0)

// What happens to a connection.
const (
	VerdictPass      = heddleVerdictVERDICT_PASS
	VerdictTranslate = heddleVerdictVERDICT_TRANSLATE
	VerdictRefuse    = heddleVerdictVERDICT_REFUSE
)

// Flags of pods, services, clusters, connections and interfaces.
const (
	PodBypass        = heddlePodFlagPOD_BYPASS
	ServiceScoped    = heddleServiceFlagSERVICE_SCOPED
	ServiceVariants  = heddleServiceFlagSERVICE_VARIANTS
	ClusterLocalOnly = heddleClusterFlagCLUSTER_LOCAL_ONLY
	ConnCounted      = heddleConnFlagCONN_COUNTED
	ConnEstablished  = heddleConnFlagCONN_ESTABLISHED
	ConnAccepted     = heddleConnFlagCONN_ACCEPTED
	ConnLimited      = heddleConnFlagCONN_LIMITED
	ConnWatched      = heddleConnFlagCONN_WATCHED
	IfaceFast        = heddleIfaceFlagIFACE_FAST
	IfaceTracked     = heddleIfaceFlagIFACE_TRACKED
)

// AddrFrom returns an address as the maps hold it: 16 bytes, IPv4 mapped into
// IPv6. The zero netip.Addr becomes ::. A zone is dropped.
func AddrFrom(ip netip.Addr) Addr {
	if !ip.IsValid() {
		return Addr{}
	}
	return Addr{B: ip.As16()}
}

// AddrOf is the reverse of AddrFrom; a mapped address comes out as IPv4.
func AddrOf(a Addr) netip.Addr {
	return netip.AddrFrom16(a.B).Unmap()
}

// PortBE returns a port as the maps hold it, in network byte order.
func PortBE(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// Port is the reverse of PortBE.
func Port(be uint16) uint16 { return PortBE(be) }

// String returns "pass", "translate" or "refuse".
func (v heddleVerdict) String() string {
	switch v {
	case VerdictPass:
		return "pass"
	case VerdictTranslate:
		return "translate"
	case VerdictRefuse:
		return "refuse"
	}
	return "unknown"
}
