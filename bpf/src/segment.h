/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A TCP segment in a packet buffer, with the key of its connection. Everything
 * unusual (options in IPv4, extension headers, fragments, tags) is no segment
 * here and stays with the stack. */
#ifndef HD_SEGMENT_H
#define HD_SEGMENT_H

struct tcp {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct segment {
	struct fast_key key;
	__u32 sender; /* index of the sender's end in key */
	__u32 seq;    /* host order */
	__u32 ack;
	__u32 end;    /* sequence number after the data */
	__u8 flags;
	__u8 ttl;
	bool is4;
};

/* Both directions of a connection have the same key. Which end is the lower one
 * does not matter, so ports are compared as they are in memory. */
static __always_inline bool lower(const struct addr *a, __be16 a_port, const struct addr *b,
				  __be16 b_port)
{
	if (a_port != b_port)
		return a_port < b_port;
	for (int i = 0; i < 4; i++) {
		if (addr_word(a, i) != addr_word(b, i))
			return addr_word(a, i) < addr_word(b, i);
	}
	return true;
}

static __always_inline void read_tcp(struct segment *s, const struct tcp *tcp, __u32 length,
				     const struct addr *from, const struct addr *to)
{
	if (lower(from, tcp->sport, to, tcp->dport)) {
		s->sender = 0;
		s->key.addr[0] = *from;
		s->key.addr[1] = *to;
		s->key.port_be[0] = tcp->sport;
		s->key.port_be[1] = tcp->dport;
	} else {
		s->sender = 1;
		s->key.addr[0] = *to;
		s->key.addr[1] = *from;
		s->key.port_be[0] = tcp->dport;
		s->key.port_be[1] = tcp->sport;
	}
	s->key.pad = 0;
	s->seq = bpf_ntohl(tcp->seq);
	s->ack = bpf_ntohl(tcp->ack);
	s->end = s->seq + length - (tcp->offset >> 4) * 4;
	s->flags = tcp->flags;
}

static __always_inline bool read_segment4(struct __sk_buff *skb, struct segment *s)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv4 *ip = data + ETH_HLEN;
	struct tcp *tcp = (void *)(ip + 1);
	struct addr from, to;

	if ((void *)(tcp + 1) > end || ip->version_ihl != 0x45 || ip->protocol != IPPROTO_TCP ||
	    ip->fragment & bpf_htons(0x3fff)) /* more to come, or not the first */
		return false;
	addr_set4(&from, ip->saddr);
	addr_set4(&to, ip->daddr);
	s->ttl = ip->ttl;
	s->is4 = true;
	read_tcp(s, tcp, skb->len - ETH_HLEN - sizeof(*ip), &from, &to);
	return true;
}

static __always_inline bool read_segment6(struct __sk_buff *skb, struct segment *s)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6 *ip = data + ETH_HLEN;
	struct tcp *tcp = (void *)(ip + 1);
	struct addr from, to;

	if ((void *)(tcp + 1) > end || (*(__u8 *)ip) >> 4 != 6 || ip->next != IPPROTO_TCP)
		return false;
	addr_set6(&from, ip->saddr);
	addr_set6(&to, ip->daddr);
	if (addr_is4(&from) || addr_is4(&to)) /* never on a wire, and the key of another connection */
		return false;
	s->ttl = ip->hop_limit;
	s->is4 = false;
	read_tcp(s, tcp, skb->len - ETH_HLEN - sizeof(*ip), &from, &to);
	return true;
}

/* Makes the first bytes directly accessible. Nearly always they are. No more
 * than that: data that is pulled is copied, and an application that changes the
 * pages of a sendfile afterwards would see it. */
static __always_inline bool accessible(struct __sk_buff *skb, __u32 bytes)
{
	return skb->data + bytes <= skb->data_end || bpf_skb_pull_data(skb, bytes) == 0;
}

/* Reads the headers, and makes them directly accessible. */
static __always_inline bool read_segment(struct __sk_buff *skb, struct segment *s)
{
	if (skb->vlan_present)
		return false;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return accessible(skb, ETH_HLEN + sizeof(struct ipv4) + sizeof(struct tcp)) &&
		       read_segment4(skb, s);
	case bpf_htons(ETH_P_IPV6):
		return accessible(skb, ETH_HLEN + sizeof(struct ipv6) + sizeof(struct tcp)) &&
		       read_segment6(skb, s);
	}
	return false;
}

/* Gives the packet the Ethernet header and the hop limit with which the stack
 * would have delivered it. False when the packet is not accessible. */
static __always_inline bool rewrite_segment(struct __sk_buff *skb, const struct segment *s,
					    const struct fast_end *to)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 ttl = s->ttl < to->ttl ? s->ttl : to->ttl;

	if (s->is4) {
		struct ipv4 *ip = data + ETH_HLEN;
		__u32 sum;

		if ((void *)(ip + 1) > end)
			return false;
		/* RFC 1624: HC' = ~(~HC + ~m + m'), for the word that the hop limit
		 * shares with the protocol. */
		sum = (__u16)~ip->checksum + (__u16)~bpf_htons(ip->ttl << 8 | ip->protocol) +
		      bpf_htons(ttl << 8 | ip->protocol);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->checksum = ~sum;
		ip->ttl = ttl;
	} else {
		struct ipv6 *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return false;
		ip->hop_limit = ttl;
	}
	__builtin_memcpy(data, to->eth, sizeof(to->eth));
	return true;
}

#endif
