/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the address hooks of connect and sendmsg share: filling the input of a
 * decision, and refusing. */
#ifndef HD_HOOK_H
#define HD_HOOK_H

/* The return value of an address hook. */
enum { DENY = 0, ALLOW = 1 };

/* Whether a program can choose the error of the call it denies (Linux 5.18).
 * Set by the loader; the other branch is not verified. */
const volatile __u8 cfg_set_retval = 0;

/* MPTCP is what TCP sockets of some runtimes are by default. */
static __always_inline __u8 protocol_of(const struct bpf_sock_addr *ctx)
{
	__u32 protocol = ctx->protocol;

	if (protocol == IPPROTO_MPTCP)
		return IPPROTO_TCP;
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ? protocol : 0;
}

/* Completes the input of a decision; addr and netns are already there. */
static __always_inline void complete(struct bpf_sock_addr *ctx, struct connect_in *in)
{
	in->cgroup = bpf_get_current_cgroup_id();
	in->rnd = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	in->now_ns = bpf_ktime_get_ns();
	in->proto = protocol_of(ctx);
}

static __always_inline int deny_refused(void)
{
	if (cfg_set_retval)
		bpf_set_retval(-ECONNREFUSED);
	return DENY; /* EPERM, when it cannot be chosen */
}

/* The family of the hook and of the address in its context differ in how they
 * are read and written, and in nothing else. */
static __always_inline void read4(struct bpf_sock_addr *ctx, struct addr *addr)
{
	addr_set4(addr, ctx->user_ip4);
}

static __always_inline void read6(struct bpf_sock_addr *ctx, struct addr *addr)
{
	addr_set6(addr, ctx->user_ip6);
}

static __always_inline void write4(struct bpf_sock_addr *ctx, const struct addr *addr,
				   __be16 port_be)
{
	ctx->user_ip4 = addr_word(addr, 3);
	ctx->user_port = port_be;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct addr *addr,
				   __be16 port_be)
{
	ctx->user_ip6[0] = addr_word(addr, 0);
	ctx->user_ip6[1] = addr_word(addr, 1);
	ctx->user_ip6[2] = addr_word(addr, 2);
	ctx->user_ip6[3] = addr_word(addr, 3);
	ctx->user_port = port_be;
}

#endif
