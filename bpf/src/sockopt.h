/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* getsockopt(SO_ORIGINAL_DST): what netfilter would answer for a translated
 * connection, for programs that ask it. */
#ifndef HD_SOCKOPT_H
#define HD_SOCKOPT_H

/* The kernel hands at most a page of the value to the program, and fails the
 * call when the program leaves a longer length as it is; 0 means "as it was". */
#define OPTVAL_MAX 4096

struct sockaddr4 {
	__u16 family;
	__be16 port_be;
	__be32 ip;
	__u8 zero[8];
};

struct sockaddr6 {
	__u16 family;
	__be16 port_be;
	__be32 flowinfo;
	__u32 ip[4];
	__u32 scope;
};

static __always_inline bool answer4(struct bpf_sockopt *ctx, const struct conn_val *conn)
{
	struct sockaddr4 *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end || ctx->optlen < (__s32)sizeof(*to))
		return false;
	to->family = AF_INET;
	to->port_be = conn->service_port_be;
	to->ip = addr_word(&conn->service_addr, 3);
	__builtin_memset(to->zero, 0, sizeof(to->zero));
	ctx->optlen = sizeof(*to);
	ctx->retval = 0;
	return true;
}

static __always_inline bool answer6(struct bpf_sockopt *ctx, const struct conn_val *conn)
{
	struct sockaddr6 *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end || ctx->optlen < (__s32)sizeof(*to))
		return false;
	to->family = AF_INET6;
	to->port_be = conn->service_port_be;
	to->flowinfo = 0;
	to->ip[0] = addr_word(&conn->service_addr, 0);
	to->ip[1] = addr_word(&conn->service_addr, 1);
	to->ip[2] = addr_word(&conn->service_addr, 2);
	to->ip[3] = addr_word(&conn->service_addr, 3);
	to->scope = 0;
	ctx->optlen = sizeof(*to);
	ctx->retval = 0;
	return true;
}

static __always_inline bool original_dst(struct bpf_sockopt *ctx)
{
	const struct conn_val *conn;
	bool ip = ctx->level == SOL_IP;

	if (ctx->optname != SO_ORIGINAL_DST || (!ip && ctx->level != SOL_IPV6))
		return false;
	conn = bpf_sk_storage_get(&hd_conns, ctx->sk, NULL, 0);
	if (!conn || addr_is4(&conn->service_addr) != ip)
		return false;
	return ip ? answer4(ctx, conn) : answer6(ctx, conn);
}

SEC("cgroup/getsockopt")
int hd_getsockopt(struct bpf_sockopt *ctx)
{
	if (!original_dst(ctx) && ctx->optlen > OPTVAL_MAX)
		ctx->optlen = 0;
	return ALLOW;
}

#endif
