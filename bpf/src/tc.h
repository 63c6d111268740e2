/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The floor, on the host side of a pod's interface. Nothing passes before the
 * interface is programmed, and a pod sends only as itself.
 *
 * "In" is what the pod sends, "out" what it receives: the directions of the
 * host's end. The programs work under tcx and under clsact. */
#ifndef HD_TC_H
#define HD_TC_H

struct tcp_start {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
};

enum {
	MLD_REPORT = 131,
	MLD_DONE = 132,
	ND_ROUTER_SOLICITATION = 133,
	ND_ROUTER_ADVERTISEMENT = 134,
	ND_NEIGHBOR_SOLICITATION = 135,
	ND_NEIGHBOR_ADVERTISEMENT = 136,
	ND_REDIRECT = 137,
	MLD2_REPORT = 143,
};

static __always_inline bool load(struct __sk_buff *skb, __u32 offset, void *to, __u32 len)
{
	return bpf_skb_load_bytes(skb, offset, to, len) == 0;
}

static __always_inline bool owns(const struct iface_val *iface, const struct addr *addr)
{
	for (__u32 i = 0; i < MAX_POD_ADDRS; i++) {
		if (i < iface->addr_count && addr_equal(&iface->addr[i], addr))
			return true;
	}
	return false;
}

/* A packet that starts a connection to a service address should have been
 * translated in connect: it comes from a raw socket, or from a connection that
 * is older than the pod's enrolment. An address that is a service for some
 * namespaces only is left alone: others may well dial what is behind it. */
static __always_inline bool to_service(struct __sk_buff *skb, __u32 offset, __u8 proto,
				       const struct addr *daddr)
{
	struct service_key key = { .addr = *daddr, .proto = proto };
	const struct service_val *service;
	struct tcp_start start = {};

	switch (proto) {
	case IPPROTO_TCP:
		if (!load(skb, offset, &start, sizeof(start)) ||
		    (start.flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return false;
		break;
	case IPPROTO_UDP:
		if (!load(skb, offset, &start, 4))
			return false;
		break;
	default:
		return false;
	}
	key.port_be = start.dport;
	service = bpf_map_lookup_elem(&hd_services, &key);
	return service && !(service->flags & SERVICE_VARIANTS);
}

static __noinline enum reason check_arp(struct __sk_buff *skb, const struct iface_val *iface)
{
	struct addr sender;
	struct arp4 arp;
	__be32 ip;

	if (!iface)
		return REASON_NOT_PROGRAMMED;
	if (!load(skb, ETH_HLEN, &arp, sizeof(arp)))
		return REASON_TRUNCATED;
	if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_len != 6 || arp.protocol_len != 4)
		return REASON_ETHERTYPE;
	__builtin_memcpy(&ip, arp.sender_ip, 4);
	if (ip == 0)
		return REASON_NONE; /* a probe: "does anybody have this address?" */
	addr_set4(&sender, ip);
	return owns(iface, &sender) ? REASON_NONE : REASON_SPOOFED_SOURCE;
}

static __noinline enum reason check_ipv4(struct __sk_buff *skb, const struct iface_val *iface)
{
	struct addr saddr, daddr;
	struct ipv4 ip;
	__u32 header;

	if (!iface)
		return REASON_NOT_PROGRAMMED;
	if (!load(skb, ETH_HLEN, &ip, sizeof(ip)))
		return REASON_TRUNCATED;
	header = (ip.version_ihl & 15) * 4;
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip))
		return REASON_TRUNCATED;
	addr_set4(&saddr, ip.saddr);
	if (!owns(iface, &saddr))
		return REASON_SPOOFED_SOURCE;
	if (ip.fragment & bpf_htons(0x1fff))
		return REASON_NONE;
	addr_set4(&daddr, ip.daddr);
	return to_service(skb, ETH_HLEN + header, ip.protocol, &daddr) ? REASON_SERVICE_UNHOOKED :
									 REASON_NONE;
}

static __always_inline bool unspecified(const __u32 *ip)
{
	return !(ip[0] | ip[1] | ip[2] | ip[3]);
}

static __always_inline bool link_local(const __u32 *ip)
{
	return (ip[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* What IPv6 needs to say from an address that is not the pod's: neighbour
 * discovery and multicast group membership, both confined to the link. */
static __always_inline bool link_scoped(struct __sk_buff *skb, const struct ipv6 *ip)
{
	__u32 offset = ETH_HLEN + sizeof(*ip);
	__u8 extension[2], type;

	if (!unspecified(ip->saddr) && !link_local(ip->saddr))
		return false;
	if (ip->next == IPPROTO_ICMPV6)
		return ip->hop_limit == 255 && load(skb, offset, &type, 1) &&
		       type >= ND_ROUTER_SOLICITATION && type <= ND_NEIGHBOR_ADVERTISEMENT;
	/* Group membership comes with a router alert option before it. */
	if (ip->next != IPPROTO_HOPOPTS || !load(skb, offset, extension, sizeof(extension)) ||
	    extension[0] != IPPROTO_ICMPV6)
		return false;
	offset += (extension[1] + 1) * 8;
	if (!load(skb, offset, &type, 1))
		return false;
	return type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT;
}

/* Whether a packet tells the link only what a pod may say, whatever its source:
 * where the pod's own addresses are, and never that it is a router. A node that
 * accepts router advertisements would send its own traffic to the pod.
 *
 * Receivers believe neighbour discovery at hop limit 255 alone, and not in
 * fragments. They do believe it behind other extension headers, where nobody
 * sends it but to hide it. */
static __always_inline bool truthful(struct __sk_buff *skb, const struct iface_val *iface,
				     const struct ipv6 *ip)
{
	__u32 offset = ETH_HLEN + sizeof(*ip), words[4];
	struct addr target;
	__u8 type;

	if (ip->hop_limit != 255)
		return true;
	switch (ip->next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return false;
	case IPPROTO_ICMPV6:
		break;
	default:
		return true;
	}
	if (!load(skb, offset, &type, 1))
		return false;
	switch (type) {
	case ND_ROUTER_ADVERTISEMENT:
	case ND_REDIRECT:
		return false;
	case ND_NEIGHBOR_SOLICITATION:
		if (!unspecified(ip->saddr))
			return true;
		break; /* from nowhere it claims the address that it asks for */
	case ND_NEIGHBOR_ADVERTISEMENT:
		break;
	default:
		return true;
	}
	if (!load(skb, offset + 8, words, sizeof(words)))
		return false;
	addr_set6(&target, words);
	return link_local(words) || owns(iface, &target);
}

static __noinline enum reason check_ipv6(struct __sk_buff *skb, const struct iface_val *iface)
{
	struct addr saddr, daddr;
	struct ipv6 ip;

	if (!iface)
		return REASON_NOT_PROGRAMMED;
	if (!load(skb, ETH_HLEN, &ip, sizeof(ip)))
		return REASON_TRUNCATED;
	addr_set6(&saddr, ip.saddr);
	if (addr_is4(&saddr)) /* never on a wire */
		return REASON_SPOOFED_SOURCE;
	if (!truthful(skb, iface, &ip))
		return REASON_SPOOFED_SOURCE;
	if (!owns(iface, &saddr))
		return link_scoped(skb, &ip) ? REASON_NONE : REASON_SPOOFED_SOURCE;
	addr_set6(&daddr, ip.daddr);
	return to_service(skb, ETH_HLEN + sizeof(ip), ip.next, &daddr) ? REASON_SERVICE_UNHOOKED :
									 REASON_NONE;
}

static __always_inline enum reason check_source(struct __sk_buff *skb,
						const struct iface_val *iface)
{
	/* The kernel has taken the tag off: protocol is the inner one. */
	if (skb->vlan_present)
		return REASON_ETHERTYPE;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return check_ipv4(skb, iface);
	case bpf_htons(ETH_P_IPV6):
		return check_ipv6(skb, iface);
	case bpf_htons(ETH_P_ARP):
		return check_arp(skb, iface);
	}
	return REASON_ETHERTYPE;
}

SEC("tc")
int hd_tc_in(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const struct iface_val *iface;
	struct iface_stat *stat;
	enum reason reason;
	int verdict;

	if (cfg_fast_path) {
		verdict = fast_forward(skb);
		if (verdict != TC_NEXT)
			return verdict;
	}
	iface = find(&hd_ifaces, &ifindex);
	if (!iface) {
		count_reason(REASON_NOT_PROGRAMMED);
		return TC_DROP;
	}
	reason = check_source(skb, iface);
	if (reason)
		count_reason(reason);
	stat = iface_stat_of(ifindex);
	if (reason && reason != REASON_SERVICE_UNHOOKED) {
		if (stat)
			stat->dropped += packets_of(skb);
		return TC_DROP;
	}
	if (stat) {
		stat->rx_packets += packets_of(skb);
		stat->rx_bytes += skb->len;
	}
	return TC_NEXT;
}

SEC("tc")
int hd_tc_out(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const struct iface_val *iface = find(&hd_ifaces, &ifindex);
	struct iface_stat *stat;

	if (!iface) {
		count_reason(REASON_NOT_PROGRAMMED);
		return TC_DROP;
	}
	stat = iface_stat_of(ifindex);
	if (stat) {
		stat->tx_packets += packets_of(skb);
		stat->tx_bytes += skb->len;
	}
	if (cfg_fast_path)
		fast_learn(skb, iface);
	return TC_NEXT;
}

#endif
