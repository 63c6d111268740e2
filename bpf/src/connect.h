/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect(2): the endpoint is chosen before the first packet, and the socket
 * remembers what it asked for. */
#ifndef HD_CONNECT_H
#define HD_CONNECT_H

/* Forgets the connection of a socket that is being connected again. */
static __always_inline void forget(struct bpf_sock_addr *ctx)
{
	struct conn_val *conn = bpf_sk_storage_get(&hd_conns, ctx->sk, NULL, 0);

	if (!conn)
		return;
	if (conn->flags & CONN_COUNTED)
		count_closed(conn->service, conn->cluster, &conn->endpoint_addr,
			     conn->endpoint_port_be);
	leave_policy(conn);
	if (conn->timeout_ms)
		unlimit(ctx, conn);
	bpf_sk_storage_delete(&hd_conns, ctx->sk);
}

static __always_inline void remember(struct bpf_sock_addr *ctx, const struct connect_in *in,
				     const struct connect_out *out)
{
	struct conn_val new = {
		.service_addr = in->addr,
		.endpoint_addr = out->addr,
		.service_port_be = in->port_be,
		.endpoint_port_be = out->port_be,
		.flags = CONN_COUNTED,
		.service = out->service,
		.cluster = out->cluster,
	};
	struct conn_val *conn;

	if (out->max_connections)
		new.flags |= CONN_LIMITED;
	if (out->max_failures)
		new.flags |= CONN_WATCHED;
	if (in->proto != IPPROTO_TCP)
		forget(ctx);
	/* Without memory for it the connection still goes to its endpoint; it is
	 * not counted, and getpeername shows the endpoint. */
	conn = bpf_sk_storage_get(&hd_conns, ctx->sk, &new, BPF_SK_STORAGE_GET_F_CREATE);
	if (conn) {
		count_opened(out->service, out->cluster, &out->addr, out->port_be);
		if (out->connect_timeout_ms)
			limit_handshake(ctx, conn, out->connect_timeout_ms);
	} else if (out->max_connections) {
		give_place(&out->cluster);
	}
}

static __always_inline void remember_affinity(const struct connect_in *in,
					      const struct connect_out *out)
{
	struct affinity_key key = { .service = out->service, .netns = in->netns };
	struct affinity_val val = {
		.addr = out->addr,
		.port_be = out->port_be,
		.last_ns = in->now_ns,
	};

	bpf_map_update_elem(&hd_affinity, &key, &val, BPF_ANY);
}

/* Decides for the address in in->addr, and keeps the books. */
static __always_inline enum verdict on_connect(struct bpf_sock_addr *ctx, struct connect_in *in,
					       struct connect_out *out)
{
	in->netns = bpf_get_netns_cookie(ctx);
	/* Sockets of namespaces outside the mesh pay for this lookup only. */
	if (!find(&hd_pods, &in->netns))
		return VERDICT_PASS;

	in->port_be = ctx->user_port;
	complete(ctx, in);
	/* A TCP socket that connects is not connected: what it tried before is over,
	 * and must not take a place from itself. */
	if (in->proto == IPPROTO_TCP)
		forget(ctx);
	decide(in, out);
	if (out->max_connections && out->verdict == VERDICT_TRANSLATE && !take_place(out))
		conclude(out, REASON_MAX_CONNECTIONS);
	count_decision(out);
	switch (out->verdict) {
	case VERDICT_PASS:
		if (in->proto != IPPROTO_TCP)
			forget(ctx);
		break;
	case VERDICT_TRANSLATE:
		remember(ctx, in, out);
		if (out->affinity_s)
			remember_affinity(in, out);
		break;
	case VERDICT_REFUSE:
		break; /* the call fails and leaves the socket with the peer it had */
	}
	return out->verdict;
}

/* Before Linux 5.18 the error of a denied connect is EPERM, which no client
 * takes for a refused connection. Port 0 of the loopback answers with one. */
static __always_inline void to_nowhere(struct addr *addr, bool is4)
{
	if (is4)
		addr_set4(addr, bpf_htonl(0x7f000001));
	else
		*addr = (struct addr){ .b[15] = 1 };
}

SEC("cgroup/connect4")
int hd_connect4(struct bpf_sock_addr *ctx)
{
	struct connect_in in = {};
	struct connect_out out;

	read4(ctx, &in.addr);
	switch (on_connect(ctx, &in, &out)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_TRANSLATE:
		write4(ctx, &out.addr, out.port_be);
		return ALLOW;
	case VERDICT_REFUSE:
		if (cfg_set_retval)
			break;
		to_nowhere(&out.addr, true);
		write4(ctx, &out.addr, 0);
		return ALLOW;
	}
	return deny_refused();
}

SEC("cgroup/connect6")
int hd_connect6(struct bpf_sock_addr *ctx)
{
	struct connect_in in = {};
	struct connect_out out;

	read6(ctx, &in.addr);
	switch (on_connect(ctx, &in, &out)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_TRANSLATE:
		write6(ctx, &out.addr, out.port_be);
		return ALLOW;
	case VERDICT_REFUSE:
		if (cfg_set_retval)
			break;
		to_nowhere(&out.addr, addr_is4(&in.addr));
		write6(ctx, &out.addr, 0);
		return ALLOW;
	}
	return deny_refused();
}

#endif
