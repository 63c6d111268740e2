/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Headers as they are on a wire, and the counters of interfaces. */
#ifndef HD_PACKET_H
#define HD_PACKET_H

#define ETH_HLEN 14

struct arp4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
};

struct ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 len;
	__be16 id;
	__be16 fragment; /* 13 bits of offset */
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 saddr;
	__be32 daddr;
};

struct ipv6 {
	__be32 version_class_flow;
	__be16 len;
	__u8 next;
	__u8 hop_limit;
	__u32 saddr[4];
	__u32 daddr[4];
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

static __always_inline struct iface_stat *iface_stat_of(__u32 ifindex)
{
	struct iface_stat *stat, zero = {};

	stat = bpf_map_lookup_elem(&hd_if_stats, &ifindex);
	if (!stat) {
		bpf_map_update_elem(&hd_if_stats, &ifindex, &zero, BPF_NOEXIST);
		stat = bpf_map_lookup_elem(&hd_if_stats, &ifindex);
	}
	return stat;
}

/* Packets as they would be on a wire, not as the stack batches them. */
static __always_inline __u64 packets_of(struct __sk_buff *skb)
{
	return skb->gso_segs ? skb->gso_segs : 1;
}

#endif
