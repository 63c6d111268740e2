/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
#ifndef HD_ADDR_H
#define HD_ADDR_H

static __always_inline __u32 addr_word(const struct addr *a, int i)
{
	return ((const __u32 *)a->b)[i];
}

static __always_inline void addr_set4(struct addr *a, __be32 ip)
{
	__u32 *word = (__u32 *)a->b;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ip;
}

/* ip is a context's array: it must be read word by word. */
#define addr_set6(a, ip)                    \
	do {                                \
		__u32 *word = (__u32 *)(a)->b; \
		word[0] = (ip)[0];          \
		word[1] = (ip)[1];          \
		word[2] = (ip)[2];          \
		word[3] = (ip)[3];          \
	} while (0)

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_word(a, 0) == addr_word(b, 0) && addr_word(a, 1) == addr_word(b, 1) &&
	       addr_word(a, 2) == addr_word(b, 2) && addr_word(a, 3) == addr_word(b, 3);
}

static __always_inline bool addr_is4(const struct addr *a)
{
	return addr_word(a, 0) == 0 && addr_word(a, 1) == 0 && addr_word(a, 2) == bpf_htonl(0xffff);
}

static __always_inline bool addr_is_loopback(const struct addr *a)
{
	if (addr_is4(a))
		return a->b[12] == 127;
	return addr_word(a, 0) == 0 && addr_word(a, 1) == 0 && addr_word(a, 2) == 0 &&
	       addr_word(a, 3) == bpf_htonl(1);
}

#endif
