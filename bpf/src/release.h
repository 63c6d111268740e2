/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The last close of a socket. Its storage is freed by the kernel. */
#ifndef HD_RELEASE_H
#define HD_RELEASE_H

SEC("cgroup/sock_release")
int hd_release(struct bpf_sock *ctx)
{
	const struct conn_val *conn = bpf_sk_storage_get(&hd_conns, ctx, NULL, 0);
	const struct peers_val *peers = bpf_sk_storage_get(&hd_peers, ctx, NULL, 0);

	if (conn && conn->flags & CONN_COUNTED)
		count_closed(conn->service, conn->cluster, &conn->endpoint_addr,
			     conn->endpoint_port_be);
	if (conn)
		leave_policy(conn);
	for (__u32 i = 0; peers && i < MAX_PEERS; i++) {
		const struct peer *peer = &peers->peer[i];

		if (peer->last_ns)
			count_closed(peer->service, peer->cluster, &peer->endpoint_addr,
				     peer->endpoint_port_be);
	}
	return ALLOW;
}

#endif
