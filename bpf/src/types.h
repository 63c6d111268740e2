/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every struct that user space and the kernel share. Written once, here: the
 * Go types are generated from the BTF of these definitions.
 *
 * Rules: addresses are always 16 bytes, IPv4 mapped into IPv6 (::ffff:a.b.c.d);
 * fields ending in _be are big-endian, everything else is host order; padding
 * is explicit and always zero, because it is part of a map key's bytes. */
#ifndef HD_TYPES_H
#define HD_TYPES_H

/* The tests of an upgrade need an object with another layout. NEXT_FIELD is a
 * field of that one, in the middle of three structs, and nothing otherwise. */
#ifdef HD_LAYOUT_NEXT
#define NEXT_FIELD __u64 next;
#else
#define NEXT_FIELD
#endif

struct addr {
	__u8 b[16];
};

enum verdict {
	VERDICT_PASS = 0,      /* leave the connection as it is */
	VERDICT_TRANSLATE = 1, /* send it to the chosen endpoint */
	VERDICT_REFUSE = 2,    /* fail the call with ECONNREFUSED */
};

/* Why a connection or a packet was passed, translated, refused or dropped.
 * The numbers are the index of hd_reasons and part of the upgrade contract:
 * append only. */
enum reason {
	REASON_NONE = 0,
	REASON_NOT_ENROLLED = 1,     /* pass: the namespace is not in hd_pods */
	REASON_OWN_SOCKET = 2,       /* pass: a socket of Heddle itself */
	REASON_NOT_SERVICE = 3,      /* pass: the destination is no mesh service */
	REASON_PROTOCOL = 4,         /* pass: neither TCP nor UDP */
	REASON_BALANCED = 5,         /* translate: chosen by weight */
	REASON_AFFINITY = 6,         /* translate: same endpoint as before */
	REASON_NO_ENDPOINT = 7,      /* refuse: the chosen cluster is empty */
	REASON_BACKEND_MISSING = 8,  /* refuse: the share of a backend that does not exist */
	REASON_NO_LOCAL_ENDPOINT = 9,/* refuse: internalTrafficPolicy Local, none here */
	REASON_WEIGHTS_ZERO = 10,    /* refuse: every weight of the route is 0 */
	REASON_TABLE_RACE = 11,      /* refuse: tables changed under every retry */
	REASON_NOT_PROGRAMMED = 12,  /* drop: the pod's interface is not programmed yet */
	REASON_SPOOFED_SOURCE = 13,  /* drop: source address is not the pod's */
	REASON_ETHERTYPE = 14,       /* drop: neither IPv4, IPv6 nor ARP */
	REASON_TRUNCATED = 15,       /* drop: header shorter than it says */
	REASON_SERVICE_UNHOOKED = 16,/* pass, counted: a packet to a service address that
					did not come through connect (raw socket, or a
					connection older than the enrolment) */
	REASON_FAST_PATH = 17,       /* a connection's packets are moved by redirect */
	REASON_FAST_FULL = 18,       /* stays on the stack: hd_fast is full */
	REASON_FAST_SHARE = 19,      /* stays on the stack: its client has its share of hd_fast */
	REASON_FAST_BARRED = 20,     /* stays on the stack: one interface may not take part */
	REASON_FAST_TRANSLATED = 21, /* stays on the stack: which translates its addresses */
	REASON_FAST_MTU = 22,        /* a packet through the stack: too long for the other interface */
	REASON_BYPASSED = 23,        /* a connection's bytes go from socket to socket */
	REASON_BYPASS_FULL = 24,     /* stays on TCP: hd_socks is full */
	REASON_BYPASS_SHARE = 25,    /* stays on TCP: the pod has its share of hd_socks */
	REASON_BYPASS_ULP = 26,      /* setsockopt refused: TLS on a bypassed socket */
	REASON_BYPASS_LATE = 27,     /* one direction stays on TCP: its first bytes went that way */
	REASON_BYPASS_SLOW = 28,     /* one direction goes on over TCP: its reader is behind */
	REASON_FAST_UNTRACKED = 29,  /* stays on the stack: conntrack has it in another zone, or not at all */
	REASON_MAX_CONNECTIONS = 30, /* refuse: as many connections are open as a policy lets be */
	REASON_EJECTED = 31,         /* an endpoint gets no connections for a while: they failed */
	REASON_TIMEOUT_UNSET = 32,   /* the kernel's own connect timeout stands, not the policy's */
	REASON_MAX = 33,
};

enum pod_flag {
	POD_BYPASS = 1, /* its sockets may join hd_socks */
};

/* hd_pods: network namespace cookie -> the enrolled pod living in it. */
struct pod_val {
	__u64 scope;   /* id of the pod's Kubernetes namespace, see service_key */
	__u32 ifindex; /* host side of its interface; 0 when there is none */
	enum pod_flag flags;
};

/* hd_services: what a client dials. */
struct service_key {
	struct addr addr;
	__u64 scope;   /* 0: for everybody; else the client namespace's id */
	__be16 port_be;
	__u8 proto;    /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad[5];
};

enum service_flag {
	SERVICE_SCOPED = 1,   /* variants for some client namespaces exist */
	SERVICE_VARIANTS = 2, /* nothing else does: to everybody else it is no service */
};

struct service_val {
	__u64 service;    /* id: of "namespace/name:port/proto[@scope]" */
	__u64 split;      /* hd_splits key; 0: cluster is the only choice */
	__u64 cluster;    /* hd_clusters key, used when split is 0; 0: missing backend */
	NEXT_FIELD
	enum service_flag flags;
	__u32 affinity_s; /* ClientIP affinity timeout in seconds; 0: none */
};

/* hd_splits: Vose alias table over clusters. Column i is drawn with
 * probability 1/columns; then a number below total is drawn, and the column's
 * own cluster is taken when it is below cut, the alias column's otherwise. All
 * arithmetic is in integers, so every share is the exact ratio of its weight. */
#define MAX_COLUMNS 16 /* backendRefs of one rule, Gateway API limit */

struct column {
	__u64 cluster; /* hd_clusters key; 0: missing backend */
	__u32 cut;
	__u32 alias;   /* index of another column */
};

struct split_val {
	__u32 columns; /* 0: every weight is 0 */
	__u32 total;
	struct column column[MAX_COLUMNS];
};

enum cluster_flag {
	CLUSTER_LOCAL_ONLY = 1, /* empty means NO_LOCAL_ENDPOINT */
};

/* hd_clusters: the set of endpoints this node may use, after locality, and the
 * policy for TCP connections to them; where it says nothing it is 0. */
struct cluster_val {
	__u32 count; /* endpoints 0..count-1 exist in hd_endpoints */
	enum cluster_flag flags;
	__u32 connect_timeout_ms;
	__u32 max_connections; /* open at the same time, of this node */
	__u32 max_failures;    /* connects in a row that fail before an endpoint is ejected */
	__u32 ejection_ms;     /* for so long */
	__u32 max_ejected;     /* endpoints at the same time */
};

/* hd_loads: per cluster with a policy, by cluster id. */
struct load_val {
	__s64 open;      /* connections, when the policy limits them */
	__u64 ejected;   /* endpoints since ejections began, and not before until_ns is over */
	__u64 until_ns;  /* CLOCK_MONOTONIC of the end of the last ejection */
};

/* hd_outliers: endpoints that connections failed to. */
struct outlier_key {
	__u64 cluster;
	struct addr addr;
	__be16 port_be;
	__u8 pad[6];
};

struct outlier_val {
	__u64 until_ns; /* CLOCK_MONOTONIC; no connections before, unless no other is found */
	__u32 failures; /* in a row */
	__u32 pad;
};

struct endpoint_key {
	__u64 cluster;
	__u32 index;
	__u32 pad;
};

struct endpoint_val {
	struct addr addr;
	__be16 port_be;
	__u8 pad[6];
	__u64 cluster; /* repeats the key: a recycled element is recognised by it */
};

/* hd_members: an endpoint that connections of this service may still use.
 * Kept for services with affinity and for UDP services. */
struct member_key {
	__u64 service;
	struct addr addr;
	__be16 port_be;
	__u8 pad[6];
};

struct member_val {
	__u64 cluster;
};

/* hd_affinity: where a client of a service with affinity went last. */
struct affinity_key {
	__u64 service;
	__u64 netns; /* cookie of the client's network namespace */
};

struct affinity_val {
	struct addr addr;
	__be16 port_be;
	__u8 pad[6];
	NEXT_FIELD
	__u64 last_ns; /* CLOCK_MONOTONIC of the last connection */
};

enum conn_flag {
	CONN_COUNTED = 1,     /* counted in hd_stats.opened: sock_release counts closed */
	CONN_ESTABLISHED = 2,
	CONN_ACCEPTED = 4,    /* an accepted socket: only the original destination is known */
	CONN_LIMITED = 8,     /* counted in hd_loads.open */
	CONN_WATCHED = 16,    /* a failure counts against the endpoint */
};

/* hd_conns: per socket, what connect() was asked for and what it became. */
struct conn_val {
	struct addr service_addr;
	struct addr endpoint_addr;
	__be16 service_port_be;
	__be16 endpoint_port_be;
	enum conn_flag flags;
	NEXT_FIELD
	__u64 service;
	__u64 cluster;
	__u32 timeout_ms; /* TCP_USER_TIMEOUT while it connects; 0: not ours */
	__u32 pad;
};

/* hd_peers: per unconnected UDP socket, its last translated destinations. */
#define MAX_PEERS 8

struct peer {
	struct addr service_addr;
	struct addr endpoint_addr;
	__be16 service_port_be;
	__be16 endpoint_port_be;
	__u32 pad;
	__u64 service;
	__u64 cluster;
	__u64 last_ns; /* CLOCK_MONOTONIC of the last datagram sent; 0: free */
};

struct peers_val {
	struct peer peer[MAX_PEERS];
};

/* hd_flows: original destination of a connection that stays inside one
 * network namespace, from TCP_CONNECT until the other end is accepted. */
struct flow_key {
	__u64 netns;
	struct addr src;
	struct addr dst;
	__be16 src_port_be;
	__be16 dst_port_be;
	__u32 pad;
};

struct flow_val {
	struct addr service_addr;
	__be16 service_port_be;
	__u8 pad[6];
};

/* hd_stats: connections by service, cluster and endpoint. */
struct stat_key {
	__u64 service;
	__u64 cluster;
	struct addr addr;
	__be16 port_be;
	__u8 pad[6];
};

struct stat_val {
	__u64 opened;      /* connect() or first datagram sent here */
	__u64 established; /* TCP handshakes completed */
	__u64 closed;      /* sockets released; opened - closed are open now */
};

/* hd_refusals: refused connections by service. */
struct refusal_key {
	__u64 service;
	enum reason reason;
	__u32 pad;
};

/* hd_ifaces: host side of a pod's interface. A TC program that finds no entry
 * drops: that is the state between attaching and programming. */
#define MAX_POD_ADDRS 4

enum iface_flag {
	IFACE_FAST = 1,    /* nothing but Heddle looks at its packets: they may skip the stack */
	IFACE_TRACKED = 2, /* conntrack is in use on the node: it has to know a fast connection */
};

struct iface_val {
	__u64 netns;
	__u32 addr_count;
	enum iface_flag flags;
	struct addr addr[MAX_POD_ADDRS];
};

struct iface_stat {
	__u64 rx_packets; /* from the pod */
	__u64 rx_bytes;
	__u64 tx_packets; /* to the pod */
	__u64 tx_bytes;
	__u64 dropped;
};

/* hd_fast: a TCP connection between two pods of this node whose packets skip
 * the stack. Both directions share the element: end 0 has the lower port, or the
 * lower address when the ports are equal. */
struct fast_key {
	struct addr addr[2];
	__be16 port_be[2];
	__u32 pad;
};

struct fast_end {
	__u32 ifindex; /* host side of the pod's interface */
	__u32 fin_end; /* sequence number after its FIN, once there was one */
	__u8 eth[12];  /* destination and source that packets to it carry */
	__u8 ttl;      /* hop limit that packets to it carry, at most */
	__u8 pad[3];
	__u64 packets; /* that it sent; hd_if_stats gets them when the connection ends */
	__u64 bytes;
};

enum fast_closing {
	FIN_SENT_0 = 1, /* by end 0 */
	FIN_SENT_1 = 2,
	FIN_ACKED_0 = 4, /* that of end 0 */
	FIN_ACKED_1 = 8,
	FAST_CLOSED = 15,
};

struct fast_val {
	__u64 tag; /* of the key: a recycled element is recognised by it */
	struct fast_end end[2];
	enum fast_closing closing;
	__u32 client; /* index of the end that connected */
};

/* hd_fast_ended: what hd_fast had of a connection that ended a moment ago. */
struct ended_val {
	struct fast_val flow;
	__u64 at_ns;
};

/* hd_handshakes: TCP handshakes between two pods of this node, as they leave
 * the stack. Losing one keeps its connection on the stack. */
struct handshake_val {
	__u32 client_ifindex;
	__u32 server_ifindex;
	__u8 eth[12]; /* as in fast_end, for the client */
	__u8 ttl;
	__u8 client;   /* index of the client's end */
	__u8 answered; /* the SYN-ACK has passed */
	__u8 pad;
};

/* The socket bypass, see bypass.h. A socket is named by its own end, and so
 * that its peer can name it: hd_socks and hd_credit have this key. Sockets
 * outlive an upgrade inside hd_socks, so it never changes. */
struct sock_key {
	__u64 netns;
	struct addr local;
	struct addr remote;
	__be16 local_port_be;
	__be16 remote_port_be;
	__u32 pad;
};

/* Which way the bytes go that a socket sends. */
enum way {
	WAY_OPEN = 0,   /* it has sent nothing yet */
	WAY_BYPASS = 1,
	WAY_TCP = 2,    /* for the rest of the connection */
};

/* hd_bypassed: per socket in hd_socks. */
struct bypass_val {
	struct sock_key self;
	struct sock_key peer;
	enum way way;
	__u32 pad;
};

/* hd_credit: per socket in hd_socks, what its peer sent around TCP. */
struct credit_val {
	__s64 waiting; /* bytes that were sent and not read */
	__u64 used;    /* 0: nothing came this way yet */
};

/* Input and output of the decision, shared by the hooks, by `heddlectl why`
 * and by the tests. */
struct connect_in {
	__u64 netns;
	__u64 cgroup;  /* of the calling task */
	__u64 rnd;     /* 64 random bits */
	__u64 now_ns;
	struct addr addr;
	__be16 port_be;
	__u8 proto;
	__u8 pad[5];
};

struct connect_out {
	enum verdict verdict;
	enum reason reason;
	__u32 column;   /* index of the drawn column, ~0 when there was no split */
	__u32 index;    /* index of the endpoint in its cluster, ~0 by affinity */
	__u64 scope;    /* scope of the service entry that matched */
	__u64 service;
	__u64 cluster;
	__u32 affinity_s;
	__be16 port_be; /* of the endpoint */
	__u8 pad[2];
	struct addr addr;
	__u32 connect_timeout_ms; /* of the cluster's policy */
	__u32 max_connections;
	__u32 max_failures;
	__u32 pad2;
};

#endif
