/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Datagrams of sockets that are not connected. A socket keeps the endpoint it
 * was given for a service address as long as it uses it, and replies carry the
 * address that the client sent to. */
#ifndef HD_UDP_H
#define HD_UDP_H

/* How long a silent socket keeps its endpoint, as in conntrack. */
#define PEER_NS (120 * 1000000000ULL)

/* Slot of a service address, or MAX_PEERS. */
static __always_inline __u32 find_peer(const struct peers_val *peers, const struct connect_in *in)
{
	__u32 i;

	for (i = 0; i < MAX_PEERS; i++) {
		const struct peer *peer = &peers->peer[i];

		if (peer->last_ns && peer->service_port_be == in->port_be &&
		    addr_equal(&peer->service_addr, &in->addr))
			break;
	}
	return i;
}

/* The slot to lose when a new address comes: a free one or the oldest. */
static __always_inline __u32 oldest_peer(const struct peers_val *peers)
{
	__u64 oldest_ns = ~0ULL;
	__u32 oldest = 0;

	for (__u32 i = 0; i < MAX_PEERS; i++) {
		if (peers->peer[i].last_ns < oldest_ns) {
			oldest_ns = peers->peer[i].last_ns;
			oldest = i;
		}
	}
	return oldest;
}

static __always_inline bool still_member(const struct peer *peer)
{
	struct member_key key = {
		.service = peer->service,
		.addr = peer->endpoint_addr,
		.port_be = peer->endpoint_port_be,
	};

	return find(&hd_members, &key);
}

/* Whether the address still stands for this service: a service that lost it
 * keeps its endpoints, and another one may have it by now. While that changes,
 * the datagram may go where it would have gone a moment before. */
static __always_inline bool still_at_address(const struct connect_in *in, __u64 scope,
					     __u64 id)
{
	struct service_val service;
	__u64 matched;

	switch (find_service(in, scope, &service, &matched)) {
	case COPIED:
		return service.service == id;
	case CHANGED:
		return true;
	case ABSENT:
		break;
	}
	return false;
}

/* Repeats the choice of the socket's last datagram to this address. Another
 * thread that sends through the socket may be writing the slot: the checks are
 * made on a copy, and what passes them is right, whoever wrote it. */
static __always_inline bool repeat(struct peers_val *peers, const struct connect_in *in,
				   __u64 scope, struct connect_out *out)
{
	__u32 i = find_peer(peers, in);
	struct peer peer;

	if (i >= MAX_PEERS)
		return false;
	hide(i); /* all slots look the same to the verifier from here */
	i &= MAX_PEERS - 1;
	peer = peers->peer[i];
	barrier();
	if (in->now_ns >= peer.last_ns + PEER_NS || !still_at_address(in, scope, peer.service) ||
	    !still_member(&peer))
		return false;
	peers->peer[i].last_ns = in->now_ns;
	out->addr = peer.endpoint_addr;
	out->port_be = peer.endpoint_port_be;
	return true;
}

static __always_inline void remember_peer(struct bpf_sock_addr *ctx, const struct connect_in *in,
					  const struct connect_out *out)
{
	struct peers_val *peers;
	struct peer *peer;
	__u32 i;

	peers = bpf_sk_storage_get(&hd_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peers)
		return;
	i = find_peer(peers, in);
	if (i >= MAX_PEERS)
		i = oldest_peer(peers);
	hide(i);
	peer = &peers->peer[i & (MAX_PEERS - 1)];
	if (peer->last_ns)
		count_closed(peer->service, peer->cluster, &peer->endpoint_addr,
			     peer->endpoint_port_be);
	*peer = (struct peer){
		.service_addr = in->addr,
		.endpoint_addr = out->addr,
		.service_port_be = in->port_be,
		.endpoint_port_be = out->port_be,
		.service = out->service,
		.cluster = out->cluster,
		.last_ns = in->now_ns,
	};
	count_opened(out->service, out->cluster, &out->addr, out->port_be);
}

static __always_inline enum verdict on_sendmsg(struct bpf_sock_addr *ctx, struct connect_in *in,
					       struct connect_out *out)
{
	struct peers_val *peers;
	struct pod_val pod;
	enum copied copied;

	in->netns = bpf_get_netns_cookie(ctx);
	copied = find_pod(in->netns, &pod);
	if (copied == ABSENT)
		return VERDICT_PASS;

	in->port_be = ctx->user_port;
	complete(ctx, in);
	peers = bpf_sk_storage_get(&hd_peers, ctx->sk, NULL, 0);
	if (peers && copied == COPIED && repeat(peers, in, pod.scope, out))
		return VERDICT_TRANSLATE;

	decide(in, out);
	count_decision(out);
	if (out->verdict == VERDICT_TRANSLATE) {
		remember_peer(ctx, in, out);
		if (out->affinity_s)
			remember_affinity(in, out);
	}
	return out->verdict;
}

SEC("cgroup/sendmsg4")
int hd_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct connect_in in = {};
	struct connect_out out;

	read4(ctx, &in.addr);
	switch (on_sendmsg(ctx, &in, &out)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_TRANSLATE:
		write4(ctx, &out.addr, out.port_be);
		return ALLOW;
	case VERDICT_REFUSE:
		break;
	}
	return deny_refused();
}

SEC("cgroup/sendmsg6")
int hd_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct connect_in in = {};
	struct connect_out out;

	read6(ctx, &in.addr);
	switch (on_sendmsg(ctx, &in, &out)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_TRANSLATE:
		write6(ctx, &out.addr, out.port_be);
		return ALLOW;
	case VERDICT_REFUSE:
		break;
	}
	return deny_refused();
}

/* What the client calls the sender of a datagram. */
struct source {
	struct addr addr;
	__be16 port_be;
};

static __always_inline bool find_source(struct bpf_sock_addr *ctx, struct source *source)
{
	struct bpf_sock *sk = ctx->sk;
	const struct peers_val *peers;
	const struct conn_val *conn;
	__u64 newest_ns = 0;
	__u32 newest = 0;

	/* The storage outlives a dissolved connection, which no hook sees. */
	conn = bpf_sk_storage_get(&hd_conns, sk, NULL, 0);
	if (conn && sk->state == TCP_ESTABLISHED && conn->endpoint_port_be == source->port_be &&
	    addr_equal(&conn->endpoint_addr, &source->addr)) {
		source->addr = conn->service_addr;
		source->port_be = conn->service_port_be;
		return true;
	}

	peers = bpf_sk_storage_get(&hd_peers, sk, NULL, 0);
	if (!peers)
		return false;
	for (__u32 i = 0; i < MAX_PEERS; i++) {
		const struct peer *peer = &peers->peer[i];

		if (peer->last_ns > newest_ns && peer->endpoint_port_be == source->port_be &&
		    addr_equal(&peer->endpoint_addr, &source->addr)) {
			newest_ns = peer->last_ns;
			newest = i;
		}
	}
	if (!newest_ns)
		return false;
	hide(newest);
	newest &= MAX_PEERS - 1;
	source->addr = peers->peer[newest].service_addr;
	source->port_be = peers->peer[newest].service_port_be;
	return true;
}

SEC("cgroup/recvmsg4")
int hd_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct source source = { .port_be = ctx->user_port };

	read4(ctx, &source.addr);
	if (find_source(ctx, &source))
		write4(ctx, &source.addr, source.port_be);
	return ALLOW;
}

SEC("cgroup/recvmsg6")
int hd_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct source source = { .port_be = ctx->user_port };

	read6(ctx, &source.addr);
	if (find_source(ctx, &source))
		write6(ctx, &source.addr, source.port_be);
	return ALLOW;
}

#endif
