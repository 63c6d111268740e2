package bpf

// Why a connection or a packet was passed, translated, refused or dropped. The
// numbers index hd_reasons and never change.
const (
	ReasonNone            = heddleReasonREASON_NONE
	ReasonNotEnrolled     = heddleReasonREASON_NOT_ENROLLED
	ReasonOwnSocket       = heddleReasonREASON_OWN_SOCKET
	ReasonNotService      = heddleReasonREASON_NOT_SERVICE
	ReasonProtocol        = heddleReasonREASON_PROTOCOL
	ReasonBalanced        = heddleReasonREASON_BALANCED
	ReasonAffinity        = heddleReasonREASON_AFFINITY
	ReasonNoEndpoint      = heddleReasonREASON_NO_ENDPOINT
	ReasonBackendMissing  = heddleReasonREASON_BACKEND_MISSING
	ReasonNoLocalEndpoint = heddleReasonREASON_NO_LOCAL_ENDPOINT
	ReasonWeightsZero     = heddleReasonREASON_WEIGHTS_ZERO
	ReasonTableRace       = heddleReasonREASON_TABLE_RACE
	ReasonNotProgrammed   = heddleReasonREASON_NOT_PROGRAMMED
	ReasonSpoofedSource   = heddleReasonREASON_SPOOFED_SOURCE
	ReasonEthertype       = heddleReasonREASON_ETHERTYPE
	ReasonTruncated       = heddleReasonREASON_TRUNCATED
	ReasonServiceUnhooked = heddleReasonREASON_SERVICE_UNHOOKED
	ReasonFastPath        = heddleReasonREASON_FAST_PATH
	ReasonFastFull        = heddleReasonREASON_FAST_FULL
	ReasonFastShare       = heddleReasonREASON_FAST_SHARE
	ReasonFastBarred      = heddleReasonREASON_FAST_BARRED
	ReasonFastTranslated  = heddleReasonREASON_FAST_TRANSLATED
	ReasonFastMTU         = heddleReasonREASON_FAST_MTU
	ReasonFastUntracked   = heddleReasonREASON_FAST_UNTRACKED
	ReasonBypassed        = heddleReasonREASON_BYPASSED
	ReasonBypassFull      = heddleReasonREASON_BYPASS_FULL
	ReasonBypassShare     = heddleReasonREASON_BYPASS_SHARE
	ReasonBypassUlp       = heddleReasonREASON_BYPASS_ULP
	ReasonBypassLate      = heddleReasonREASON_BYPASS_LATE
	ReasonBypassSlow      = heddleReasonREASON_BYPASS_SLOW
	ReasonMaxConnections  = heddleReasonREASON_MAX_CONNECTIONS
	ReasonEjected         = heddleReasonREASON_EJECTED
	ReasonTimeoutUnset    = heddleReasonREASON_TIMEOUT_UNSET
	reasonMax             = heddleReasonREASON_MAX
)

// reasons says for every reason what it is called everywhere outside the
// kernel, and what it means to somebody who wonders about a connection.
var reasons = [reasonMax]struct{ code, explain string }{
	ReasonNone: {"none",
		"Nothing was decided."},
	ReasonNotEnrolled: {"not_enrolled",
		"Passed unchanged: the client's network namespace is not in the mesh; label its namespace heddle.io/mesh=enabled to enrol it."},
	ReasonOwnSocket: {"own_socket",
		"Passed unchanged: the socket belongs to Heddle itself."},
	ReasonNotService: {"not_service",
		"Passed unchanged: the destination is not the cluster address and port of a Service; check the address, the port and the protocol."},
	ReasonProtocol: {"protocol",
		"Passed unchanged: the mesh handles TCP and UDP only."},
	ReasonBalanced: {"balanced",
		"Sent to an endpoint that was drawn by the weights of the route."},
	ReasonAffinity: {"affinity",
		"Sent to the endpoint of this client's last connection, because the Service asks for ClientIP affinity."},
	ReasonNoEndpoint: {"no_endpoint",
		"Refused: the chosen backend has no ready endpoint of this address family; check its pods' readiness and its selector."},
	ReasonBackendMissing: {"backend_missing",
		"Refused: this share of the route belongs to a backend that does not exist; create the Service and port, or remove the backendRef."},
	ReasonNoLocalEndpoint: {"no_local_endpoint",
		"Refused: internalTrafficPolicy is Local and this node has no ready endpoint; run one here, or use Cluster."},
	ReasonWeightsZero: {"weights_zero",
		"Refused: every backend of the route has weight 0; give one of them a weight."},
	ReasonTableRace: {"table_race",
		"Refused: the tables changed during every attempt to read them; try again, and report it if it stays."},
	ReasonNotProgrammed: {"not_programmed",
		"Dropped: the pod's interface is attached but not programmed yet; see the agent's log if it lasts longer than a second."},
	ReasonSpoofedSource: {"spoofed_source",
		"Dropped: the packet's source address is not one of the pod's; check what the pod sends (raw socket, bridge, tunnel or router inside it)."},
	ReasonEthertype: {"ethertype",
		"Dropped: the pod sent something other than untagged IPv4, IPv6 or ARP."},
	ReasonTruncated: {"truncated",
		"Dropped: the packet is shorter than its headers say."},
	ReasonServiceUnhooked: {"service_unhooked",
		"Passed, and counted: a packet to a service address that no connect call was seen for; it comes from a raw socket, or from a connection older than the pod's enrolment."},
	ReasonFastPath: {"fast_path",
		"The packets of this connection between two pods of the node skip the node's network stack."},
	ReasonFastFull: {"fast_full",
		"The connection stays on the network stack: the table of the fast path is full; raise --max-fast."},
	ReasonFastShare: {"fast_share",
		"The connection stays on the network stack: its pod has opened as many fast connections as one pod may; raise --max-fast."},
	ReasonFastBarred: {"fast_barred",
		"The connection stays on the network stack: another program or a queueing discipline on one of the two pods' interfaces must see its packets; heddlectl describe pod names it."},
	ReasonFastTranslated: {"fast_translated",
		"The connection stays on the network stack: which translates its addresses, or its handshake was not seen whole."},
	ReasonFastMTU: {"fast_mtu",
		"The packet took the network stack: it is longer than the other pod's interface takes, and the stack tells the sender."},
	ReasonFastUntracked: {"fast_untracked",
		"The connection stays on the network stack: conntrack has it in a zone of its own, or does not track it, and could not be told of its end."},
	ReasonBypassed: {"bypassed",
		"Counted: a connection between two pods of this node whose bytes go from socket to socket, because both pods carry heddle.io/socket-bypass=enabled."},
	ReasonBypassFull: {"bypass_full",
		"Stayed on TCP: the node has no room for another bypassed socket, and the size is fixed; take the label off pods that do not need it."},
	ReasonBypassShare: {"bypass_share",
		"Stayed on TCP: the pod has its share of the node's bypassed sockets, which is fixed; the connection works, only without the bypass."},
	ReasonBypassUlp: {"bypass_ulp",
		"Refused: setsockopt(TCP_ULP), as TLS libraries call it, on a bypassed socket; they go on in user space, to use TLS of the kernel take heddle.io/socket-bypass off the pod."},
	ReasonBypassLate: {"bypass_late",
		"Stayed on TCP: the first bytes of this direction went that way, with the handshake or while the other end was not in the bypass; the order of bytes would not be kept otherwise."},
	ReasonBypassSlow: {"bypass_slow",
		"Went over to TCP: the reader of this direction was too far behind, and TCP holds the sender back."},
	ReasonMaxConnections: {"max_connections",
		"Refused: this node has as many connections open to the Service port as its TrafficPolicy's maxConnections allows; close some, or raise it."},
	ReasonEjected: {"ejected",
		"Counted: connections to an endpoint failed as often in a row as the TrafficPolicy's outlierDetection allows; it gets none from this node for the ejection time."},
	ReasonTimeoutUnset: {"timeout_unset",
		"Counted: a connection kept the kernel's own connect timeout instead of the TrafficPolicy's; the policy's needs Linux 6.1."},
}

// Reasons returns every reason, in the order of their numbers.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonMax)
	for r := ReasonNone; r < reasonMax; r++ {
		all = append(all, r)
	}
	return all
}

// String returns the stable code of a reason, such as "no_endpoint".
func (r heddleReason) String() string {
	if r >= reasonMax {
		return "unknown"
	}
	return reasons[r].code
}

// Explain says in one sentence what happened and what to do about it.
func (r heddleReason) Explain() string {
	if r >= reasonMax {
		return "This reason is newer than this program; use the heddlectl of the agent's release."
	}
	return reasons[r].explain
}
