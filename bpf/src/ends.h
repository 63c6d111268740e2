/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two ends of the connection that a sock_ops program is called for. */
#ifndef HD_ENDS_H
#define HD_ENDS_H

static __always_inline void read_ends(struct bpf_sock_ops *ctx, struct addr *local,
				      struct addr *remote)
{
	if (ctx->family == AF_INET6) {
		addr_set6(local, ctx->local_ip6);
		addr_set6(remote, ctx->remote_ip6);
	} else {
		addr_set4(local, ctx->local_ip4);
		addr_set4(remote, ctx->remote_ip4);
	}
}

static __always_inline __be16 local_port_be(struct bpf_sock_ops *ctx)
{
	return bpf_htons((__u16)ctx->local_port);
}

static __always_inline __be16 remote_port_be(struct bpf_sock_ops *ctx)
{
	return ctx->remote_port >> 16;
}

#endif
