/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The handshake: completed connections are counted, and a server that shares
 * the client's network namespace learns what the client dialled. */
#ifndef HD_SOCKOPS_H
#define HD_SOCKOPS_H

/* Just before the SYN: the source port is known, and no accept can be earlier.
 * Only a connection that cannot leave the namespace is noted: a pod that
 * reaches itself through a service. */
static __always_inline void on_syn(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct flow_val val = {};
	struct flow_key key = {};
	const struct conn_val *conn;

	read_ends(ctx, &key.src, &key.dst);
	if (!addr_equal(&key.src, &key.dst) && !addr_is_loopback(&key.dst))
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	key.src_port_be = local_port_be(ctx);
	key.dst_port_be = remote_port_be(ctx);
	conn = bpf_sk_storage_get(&hd_conns, sk, NULL, 0);
	if (!conn) {
		/* An earlier connection from this port may never have been accepted. */
		bpf_map_delete_elem(&hd_flows, &key);
		return;
	}
	val.service_addr = conn->service_addr;
	val.service_port_be = conn->service_port_be;
	bpf_map_update_elem(&hd_flows, &key, &val, BPF_ANY);
}

/* Asks to be told when the connection cannot be made. */
static __always_inline void watch(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct conn_val *conn = bpf_sk_storage_get(&hd_conns, sk, NULL, 0);

	if (conn && conn->flags & CONN_WATCHED)
		bpf_sock_ops_cb_flags_set(ctx, ctx->cb_flags |
						     BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void on_closed(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct conn_val *conn;

	if (ctx->args[0] == TCP_SYN_SENT) {
		conn = bpf_sk_storage_get(&hd_conns, sk, NULL, 0);
		if (conn && conn->flags & CONN_WATCHED)
			on_failed(conn);
	}
	leave_bypass(sk);
}

static __always_inline void on_connected(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct conn_val *conn = bpf_sk_storage_get(&hd_conns, sk, NULL, 0);

	if (!conn || !(conn->flags & CONN_COUNTED) || conn->flags & CONN_ESTABLISHED)
		return;
	conn->flags |= CONN_ESTABLISHED;
	count_established(conn);
	if (conn->flags & CONN_WATCHED)
		on_reached(conn);
	if (conn->timeout_ms)
		unlimit(ctx, conn);
	conn->timeout_ms = 0;
}

static __always_inline void on_accepted(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct conn_val conn = { .flags = CONN_ACCEPTED };
	struct flow_key key = {};
	struct flow_val flow;

	read_ends(ctx, &key.dst, &key.src);
	if (!addr_equal(&key.src, &key.dst) && !addr_is_loopback(&key.dst))
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	key.src_port_be = remote_port_be(ctx);
	key.dst_port_be = local_port_be(ctx);
	/* When the table is full, another connection may take the element. */
	if (copy_elem(&hd_flows, &key, &flow) != COPIED)
		return;
	conn.service_addr = flow.service_addr;
	conn.service_port_be = flow.service_port_be;
	bpf_sk_storage_get(&hd_conns, sk, &conn, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_map_delete_elem(&hd_flows, &key);
}

SEC("sockops")
int hd_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	/* ctx->reply stays as it is: other programs may have set it. */
	if (!sk)
		return ALLOW;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_syn(ctx, sk);
		watch(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_connected(ctx, sk);
		join_bypass(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_accepted(ctx, sk);
		join_bypass(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == TCP_CLOSE)
			on_closed(ctx, sk);
		break;
	}
	return ALLOW;
}

#endif
