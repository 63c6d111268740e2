/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What these programs use of the kernel's user-space ABI, and nothing else: it
 * is stable, so no kernel headers are needed to build, and the object depends
 * on this directory and the pinned compiler alone. Layouts and numbers are
 * those of include/uapi/linux/bpf.h; structures may end before the kernel's. */
#ifndef HD_KERNEL_H
#define HD_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef _Bool bool;

#define NULL ((void *)0)
#define false 0
#define true 1

#define SEC(name) __attribute__((section(name), used))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define barrier() asm volatile("" ::: "memory")
/* Makes the compiler forget what it knows about a variable, so that a bounds
 * check stays where the verifier needs it. */
#define hide(var) asm volatile("" : "+r"(var))

#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

/* Map definitions in BTF. */
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_SK_STORAGE = 24,
};

enum {
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_RDONLY_PROG = 1 << 7,
};

enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };
enum { BPF_F_INGRESS = 1 };
enum { SK_DROP = 0, SK_PASS = 1 };

/* Helpers, by their number. Those that are newer than Linux 5.15 say so. */
struct tcp_sock;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static long (*bpf_skb_store_bytes)(void *skb, __u32 offset, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static long (*bpf_skb_change_type)(void *skb, __u32 type) = (void *)32;
static long (*bpf_skb_pull_data)(void *skb, __u32 len) = (void *)39;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*bpf_setsockopt)(void *ctx, int level, int name, void *value, int size) = (void *)49;
static long (*bpf_getsockopt)(void *ctx, int level, int name, void *value, int size) = (void *)57;
static long (*bpf_sock_ops_cb_flags_set)(void *ctx, __u32 flags) = (void *)59;
static long (*bpf_sock_hash_update)(void *ctx, void *map, void *key, __u64 flags) = (void *)70;
static long (*bpf_msg_redirect_hash)(void *msg, void *map, void *key, __u64 flags) = (void *)71;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static long (*bpf_sk_storage_delete)(void *map, void *sk) = (void *)108;
static __u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static long (*bpf_seq_write)(void *seq, const void *data, __u32 len) = (void *)127;
static long (*bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;
static long (*bpf_check_mtu)(void *skb, __u32 ifindex, __u32 *mtu_len, __s32 len_diff, __u64 flags) = (void *)163;
static struct tcp_sock *(*bpf_skc_to_tcp_sock)(void *sk) = (void *)137;
static int (*bpf_set_retval)(int retval) = (void *)187; /* Linux 5.18 */
static void *(*bpf_skc_to_mptcp_sock)(void *sk) = (void *)196; /* Linux 5.19 */

enum { BPF_MTU_CHK_SEGS = 1 };
enum { PACKET_HOST = 0 };

/* Contexts. */
#define __pointer(type, name)          \
	union {                        \
		type name;             \
		__u64 name##_u64;      \
	} __attribute__((aligned(8)))

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u16 : 16;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
};

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;    /* network order, as all addresses and ports here */
	__u32 user_ip6[4];
	__u32 user_port;   /* in the lower 16 bits */
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	__pointer(struct bpf_sock *, sk);
};

struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port; /* network order, in the upper 16 bits on little-endian */
	__u32 local_port;  /* host order */
	__u32 is_fullsock;
	__u32 unused[2];   /* snd_cwnd, srtt_us */
	__u32 cb_flags;
	__u32 state;
	__u32 unused2[13]; /* rtt_min to segs_in */
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 unused3[3];  /* lost_out to sk_txhash */
	__u64 bytes_received;
	__u64 bytes_acked;
	__pointer(struct bpf_sock *, sk);
};

struct bpf_sockopt {
	__pointer(struct bpf_sock *, sk);
	__pointer(void *, optval);
	__pointer(void *, optval_end);
	__s32 level;
	__s32 optname;
	__s32 optlen;
	__s32 retval;
};

struct sk_msg_md {
	__pointer(void *, data);
	__pointer(void *, data_end);
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 size;
	__pointer(struct bpf_sock *, sk);
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 unused[8]; /* tc_index to tc_classid */
	__u32 data;      /* read as pointers: the verifier widens both */
	__u32 data_end;
	__u32 unused2[15]; /* napi_id to data_meta */
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
};

/* Functions of conntrack (Linux 6.0), which may be a module. They are weak: a
 * program that only calls them behind a false constant loads without them. The
 * options have grown since; their first 12 bytes are understood everywhere. */
struct bpf_sock_tuple {
	union {
		struct {
			__be32 saddr;
			__be32 daddr;
			__be16 sport;
			__be16 dport;
		} ipv4;
		struct {
			__be32 saddr[4];
			__be32 daddr[4];
			__be16 sport;
			__be16 dport;
		} ipv6;
	};
};

struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

enum { BPF_F_CURRENT_NETNS = -1 };

struct nf_conn {
}; /* whole, as far as the loader compares types */
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 __u32 tuple_size, struct bpf_ct_opts *opts,
					 __u32 opts_size) __weak __ksym;
extern int bpf_ct_change_timeout(struct nf_conn *conn, __u32 timeout_ms) __weak __ksym;
extern void bpf_ct_release(struct nf_conn *conn) __weak __ksym;

enum {
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_STATE_CB = 10,
};

enum { BPF_SOCK_OPS_STATE_CB_FLAG = 1 << 2 };

/* What a TC program returns: "go on" is the same number under tcx (TCX_NEXT)
 * and under clsact (TC_ACT_UNSPEC), and so is "drop". */
enum { TC_NEXT = -1, TC_DROP = 2 };

enum {
	AF_INET = 2,
	AF_INET6 = 10,
	SOL_IP = 0,
	SOL_TCP = 6,
	SOL_IPV6 = 41,
	SO_ORIGINAL_DST = 80, /* IP6T_SO_ORIGINAL_DST is the same number */
	IPPROTO_HOPOPTS = 0,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_ROUTING = 43,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
	IPPROTO_MPTCP = 262,
	ETH_P_IP = 0x0800,
	ETH_P_ARP = 0x0806,
	ETH_P_IPV6 = 0x86dd,
	ENOPROTOOPT = 92,
	ECONNREFUSED = 111,
	TCP_ESTABLISHED = 1, /* also the state of a connected UDP socket */
	TCP_SYN_SENT = 2,
	TCP_CLOSE = 7,
	TCP_USER_TIMEOUT = 18,
	TCP_ULP = 31,
	MSG_PEEK = 0x2,
	MSG_ERRQUEUE = 0x2000,
};

_Static_assert(__builtin_offsetof(struct bpf_sock, state) == 72, "bpf_sock");
_Static_assert(__builtin_offsetof(struct bpf_sock_addr, sk) == 64, "bpf_sock_addr");
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, sk) == 184, "bpf_sock_ops");
_Static_assert(__builtin_offsetof(struct bpf_sockopt, retval) == 36, "bpf_sockopt");
_Static_assert(__builtin_offsetof(struct __sk_buff, data_end) == 80, "__sk_buff");
_Static_assert(__builtin_offsetof(struct sk_msg_md, sk) == 72, "sk_msg_md");
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_segs) == 164, "__sk_buff");
_Static_assert(sizeof(struct bpf_ct_opts) == 12, "bpf_ct_opts");

#endif
