/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* getpeername(2) tells a client the address it connected to. */
#ifndef HD_PEERNAME_H
#define HD_PEERNAME_H

/* Exchanges the endpoint in peer for the service address. The hook also runs in
 * accept(2), for the socket that was accepted: that one's peer is real. */
static __always_inline bool find_peername(struct bpf_sock_addr *ctx, struct source *peer)
{
	const struct conn_val *conn = bpf_sk_storage_get(&hd_conns, ctx->sk, NULL, 0);

	if (!conn || conn->flags & CONN_ACCEPTED || conn->endpoint_port_be != peer->port_be ||
	    !addr_equal(&conn->endpoint_addr, &peer->addr))
		return false;
	peer->addr = conn->service_addr;
	peer->port_be = conn->service_port_be;
	return true;
}

SEC("cgroup/getpeername4")
int hd_getpeer4(struct bpf_sock_addr *ctx)
{
	struct source peer = { .port_be = ctx->user_port };

	read4(ctx, &peer.addr);
	if (find_peername(ctx, &peer))
		write4(ctx, &peer.addr, peer.port_be);
	return ALLOW;
}

SEC("cgroup/getpeername6")
int hd_getpeer6(struct bpf_sock_addr *ctx)
{
	struct source peer = { .port_be = ctx->user_port };

	read6(ctx, &peer.addr);
	if (find_peername(ctx, &peer))
		write6(ctx, &peer.addr, peer.port_be);
	return ALLOW;
}

#endif
