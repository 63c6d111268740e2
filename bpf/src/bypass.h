/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The socket bypass: between two pods of this node that both asked for it, what
 * one end sends is put straight into the other end's queue. Handshake and close
 * stay with TCP. bypass.md says what an application may notice.
 *
 * A reader empties that queue before it looks at what came over TCP. Hence the
 * rules for each direction of a connection:
 *
 * - It is bypassed from its first byte on, or never.
 * - It may go over to TCP at any message, and stays there. (To come back, all
 *   that went over TCP would have to be read, and no reader be waiting inside
 *   TCP for more: that cannot be seen from here.)
 *
 * TCP's window does not hold a bypassed sender back. Its bytes are counted until
 * they are read; when too many wait, the direction goes over to TCP, and the
 * sender to TCP's back-pressure. */
#ifndef HD_BYPASS_H
#define HD_BYPASS_H

/* Bytes of one direction that may wait beside TCP. The message that reaches it
 * is still let through whole: the kernel makes none longer than 17 fragments of
 * 32 KiB. */
#define BYPASS_CREDIT (512 << 10)

/* Whether this kernel has all that the bypass needs, and how many sockets of a
 * pod may be in hd_socks. Set by the loader; without the first, none of this is
 * verified. */
const volatile __u8 cfg_bypass = 0;
const volatile __u32 cfg_bypass_share = 0;

struct tcp_sock {
	__u32 write_seq; /* end of what the application wrote */
	__u32 snd_nxt;
	__u64 bytes_sent;
} __attribute__((preserve_access_index));

/* Whether both ends belong to pods of this node that asked for the bypass, to
 * two of them, by addresses of their own. That leaves out the loopback, the
 * host, and whatever is translated on the way. Fills in the names. */
static __always_inline bool both_asked(struct bpf_sock_ops *ctx, struct bypass_val *val)
{
	struct sock_key *self = &val->self, *peer = &val->peer;
	const struct pod_val *pod;
	__u64 owner;

	self->netns = bpf_get_netns_cookie(ctx);
	pod = find(&hd_pods, &self->netns);
	if (!pod || !(pod->flags & POD_BYPASS))
		return false;
	read_ends(ctx, &self->local, &self->remote);
	if (copy_elem(&hd_bypass, &self->local, &owner) != COPIED || owner != self->netns)
		return false;
	if (copy_elem(&hd_bypass, &self->remote, &owner) != COPIED || owner == self->netns)
		return false;
	peer->netns = owner;
	self->local_port_be = peer->remote_port_be = local_port_be(ctx);
	self->remote_port_be = peer->local_port_be = remote_port_be(ctx);
	peer->local = self->remote;
	peer->remote = self->local;
	return true;
}

/* The end of a socket's membership. hd_socks lets go of it by itself: when it
 * is closed, and when the connection is. */
static __noinline int leave_bypass(struct bpf_sock *sk)
{
	struct bypass_val *val;

	if (!cfg_bypass || !sk)
		return 0;
	val = bpf_sk_storage_get(&hd_bypassed, sk, NULL, 0);
	if (!val)
		return 0;
	bpf_map_delete_elem(&hd_credit, &val->self);
	give_share(&hd_shares, &val->self.netns);
	bpf_sk_storage_delete(&hd_bypassed, sk);
	return 0;
}

static __always_inline bool enter(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				  struct bypass_val *val)
{
	struct credit_val credit = {};

	if (!bpf_sk_storage_get(&hd_bypassed, sk, val, BPF_SK_STORAGE_GET_F_CREATE)) {
		give_share(&hd_shares, &val->self.netns);
		return false;
	}
	/* From here on leave_bypass undoes all of it. */
	if (bpf_map_update_elem(&hd_credit, &val->self, &credit, BPF_ANY) ||
	    bpf_sock_ops_cb_flags_set(ctx, ctx->cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) ||
	    bpf_sock_hash_update(ctx, &hd_socks, &val->self, BPF_ANY)) {
		leave_bypass(sk);
		return false;
	}
	return true;
}

/* A connection was established: its socket joins if it may. What came with the
 * handshake is in TCP's queue already, and MPTCP is no single connection. */
static __always_inline void join_bypass(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct bypass_val val = {};

	if (!cfg_bypass || !both_asked(ctx, &val))
		return;
	if (ctx->data_segs_in || ctx->data_segs_out) {
		count_reason(REASON_BYPASS_LATE);
		return;
	}
	if (bpf_skc_to_mptcp_sock(sk))
		return;
	if (!take_share(&hd_shares, &val.self.netns, cfg_bypass_share))
		count_reason(REASON_BYPASS_SHARE);
	else if (!enter(ctx, sk, &val))
		count_reason(REASON_BYPASS_FULL);
}

/* Whether a socket has given nothing to TCP: not with the handshake, and not by
 * a call that began before the handshake and ended after it. */
static __always_inline bool sent_nothing(struct sk_msg_md *msg)
{
	const struct tcp_sock *tcp = bpf_skc_to_tcp_sock(msg->sk);

	return tcp && !tcp->bytes_sent && tcp->write_seq == tcp->snd_nxt;
}

/* Counts a connection when the first of its directions is bypassed. */
static __always_inline void count_bypassed(struct bypass_val *own, struct credit_val *credit)
{
	const struct credit_val *back = bpf_map_lookup_elem(&hd_credit, &own->self);

	if (!__sync_fetch_and_add(&credit->used, 1) && !(back && back->used))
		count_reason(REASON_BYPASSED);
}

static __always_inline enum reason leave_to_tcp(struct bypass_val *own, enum reason reason)
{
	own->way = WAY_TCP;
	count_reason(reason);
	return reason;
}

/* What an application sends. The caller holds the socket's lock, so nothing is
 * sent beside it. A redirect to a socket that is not there must not become this
 * program's verdict: it would fail the call. */
SEC("sk_msg")
int hd_msg(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct credit_val *credit;
	struct bypass_val *own;

	if (!sk)
		return SK_PASS;
	own = bpf_sk_storage_get(&hd_bypassed, sk, NULL, 0);
	if (!own || own->way == WAY_TCP)
		return SK_PASS;
	credit = bpf_map_lookup_elem(&hd_credit, &own->peer);
	if (own->way == WAY_OPEN && (!credit || !sent_nothing(msg))) {
		leave_to_tcp(own, REASON_BYPASS_LATE);
		return SK_PASS;
	}
	if (!credit) { /* the peer is gone; TCP says so */
		own->way = WAY_TCP;
		return SK_PASS;
	}
	if (credit->waiting >= BYPASS_CREDIT) {
		leave_to_tcp(own, REASON_BYPASS_SLOW);
		return SK_PASS;
	}
	if (bpf_msg_redirect_hash(msg, &hd_socks, &own->peer, BPF_F_INGRESS) != SK_PASS) {
		own->way = WAY_TCP;
		return SK_PASS;
	}
	__sync_fetch_and_add(&credit->waiting, msg->size);
	if (own->way == WAY_OPEN) {
		own->way = WAY_BYPASS;
		count_bypassed(own, credit);
	}
	return SK_PASS;
}

/* What an application has read, of any socket on the node (Linux 6.3). */
SEC("tp_btf/sock_recv_length")
int hd_recv(__u64 *ctx)
{
	void *sk = (void *)ctx[0];
	int length = ctx[1];
	int flags = ctx[2];
	struct credit_val *credit;
	struct bypass_val *own;
	__s64 waiting;

	if (length <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) || !sk)
		return 0;
	own = bpf_sk_storage_get(&hd_bypassed, sk, NULL, 0);
	if (!own)
		return 0;
	credit = bpf_map_lookup_elem(&hd_credit, &own->self);
	if (!credit)
		return 0;
	/* What came over TCP is read here as well, and is no credit. */
	waiting = credit->waiting;
	if (waiting > 0)
		__sync_fetch_and_add(&credit->waiting, -(length < waiting ? length : waiting));
	return 0;
}

/* TLS in the kernel and hd_socks must not meet on a socket: what a peer sends
 * would go around the encryption, and kernels were seen to crash. The error is
 * one at which TLS libraries go on in user space. */
SEC("cgroup/setsockopt")
int hd_setsockopt(struct bpf_sockopt *ctx)
{
	if (ctx->level == SOL_TCP && ctx->optname == TCP_ULP &&
	    bpf_sk_storage_get(&hd_bypassed, ctx->sk, NULL, 0)) {
		count_reason(REASON_BYPASS_ULP);
		bpf_set_retval(-ENOPROTOOPT);
		return DENY;
	}
	if (ctx->optlen > OPTVAL_MAX)
		ctx->optlen = 0; /* as it was */
	return ALLOW;
}

#endif
