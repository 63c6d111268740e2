/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fast path: packets of an established TCP connection between two pods of
 * this node go from one pod's interface straight into the other's.
 *
 * The handshake goes through the stack, so that the rules of the CNI plugin and
 * of kube-proxy have their say. It is watched where packets leave the stack
 * (fast_learn): when SYN, SYN-ACK and ACK came out with the same addresses on
 * the two interfaces on which they went in, nothing translates the connection
 * and nothing forbids it. From then on fast_forward redirects its packets, FIN
 * and RST included. Conntrack, which would keep the connection it no longer sees
 * for days, is told when it ends. hd_fast_ended keeps it a moment longer, for
 * packets that come after that.
 *
 * An element of hd_fast is found with the addresses in a packet and used only
 * when the packet came from the interface that the handshake came from: that is
 * the floor's check of the source address. */
#ifndef HD_FAST_H
#define HD_FAST_H

/* Whether the kernel has what this needs, it passed the test, and nobody
 * switched it off. Set by the loader; the code is not verified otherwise. */
const volatile __u8 cfg_fast_path = 0;
/* Connections that one pod may have opened in hd_fast. */
const volatile __u32 cfg_fast_share = MAX_FAST / 8;

static __always_inline __u64 tag_of(const struct fast_key *key)
{
	const __u64 *word = (const __u64 *)key;

	return word[0] * 0x9e3779b97f4a7c15 ^ word[1] * 0xc2b2ae3d27d4eb4f ^
	       word[2] * 0x165667b19e3779f9 ^ word[3] * 0xd6e8feb86659fd93 ^
	       word[4] * 0xff51afd7ed558ccd;
}

static __always_inline void count_sent(const struct fast_end *from, __u32 to_ifindex)
{
	__u32 from_ifindex = from->ifindex;
	struct iface_stat *stat;

	stat = iface_stat_of(from_ifindex);
	if (stat) {
		stat->rx_packets += from->packets;
		stat->rx_bytes += from->bytes;
	}
	stat = iface_stat_of(to_ifindex);
	if (stat) {
		stat->tx_packets += from->packets;
		stat->tx_bytes += from->bytes;
	}
}

/* Removes a connection once, gives its place back to the client's share, and
 * adds what it moved to the interfaces' counters. */
static __noinline bool fast_remove(const struct fast_key *key)
{
	struct fast_val *flow, copy;
	__u32 client;

	if (!key)
		return false;
	flow = bpf_map_lookup_elem(&hd_fast, key);
	if (!flow)
		return false;
	copy = *flow;
	if (bpf_map_delete_elem(&hd_fast, key))
		return false;
	client = copy.end[copy.client & 1].ifindex;
	give_share(&hd_fast_use, &client);
	count_sent(&copy.end[0], copy.end[1].ifindex);
	count_sent(&copy.end[1], copy.end[0].ifindex);
	return true;
}

/* Finds a connection in conntrack's default zone; the caller releases it. */
static __always_inline struct nf_conn *tracked(struct __sk_buff *skb, const struct segment *s)
{
	struct bpf_ct_opts opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = IPPROTO_TCP };
	struct bpf_sock_tuple tuple = {};

	if (s->is4) {
		tuple.ipv4.saddr = addr_word(&s->key.addr[0], 3);
		tuple.ipv4.daddr = addr_word(&s->key.addr[1], 3);
		tuple.ipv4.sport = s->key.port_be[0];
		tuple.ipv4.dport = s->key.port_be[1];
		return bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	}
	for (int i = 0; i < 4; i++) {
		tuple.ipv6.saddr[i] = addr_word(&s->key.addr[0], i);
		tuple.ipv6.daddr[i] = addr_word(&s->key.addr[1], i);
	}
	tuple.ipv6.sport = s->key.port_be[0];
	tuple.ipv6.dport = s->key.port_be[1];
	return bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
}

/* Lets conntrack forget a connection whose end it does not see. */
static __noinline int forget_conntrack(struct __sk_buff *skb, const struct segment *s)
{
	struct nf_conn *conn;

	if (!s)
		return 0;
	conn = tracked(skb, s);
	if (!conn)
		return 0;
	bpf_ct_change_timeout(conn, 0);
	bpf_ct_release(conn);
	return 0;
}

/* Whether conntrack has a connection where it can be told of its end. */
static __noinline bool known_to_conntrack(struct __sk_buff *skb, const struct segment *s)
{
	struct nf_conn *conn;

	if (!s)
		return false;
	conn = tracked(skb, s);
	if (!conn)
		return false;
	bpf_ct_release(conn);
	return true;
}

/* How long packets of a connection that is over are still expected: as long as
 * conntrack, by default, remembers one that was reset. */
#define FAST_ENDED_NS 10000000000ULL

/* Remembers a connection for the packets that come after its end. */
static __noinline int fast_remember(const struct fast_key *key)
{
	struct ended_val ended = {};
	struct fast_val *flow;

	if (!key)
		return 0;
	flow = bpf_map_lookup_elem(&hd_fast, key);
	if (!flow)
		return 0;
	ended.flow = *flow;
	ended.at_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&hd_fast_ended, key, &ended, BPF_ANY);
	return 0;
}

/* Follows the end of a connection. It is over when both FINs are acknowledged,
 * or at a reset. */
static __always_inline bool fast_ends(struct fast_val *flow, const struct segment *s)
{
	__u32 sender = s->sender & 1, other = !sender, before = flow->closing, now = before;

	if (s->flags & TCP_RST)
		return true;
	if (s->flags & TCP_FIN && !(before & FIN_SENT_0 << sender)) {
		flow->end[sender].fin_end = s->end + 1;
		now |= FIN_SENT_0 << sender;
	}
	if (before & FIN_SENT_0 << other && s->flags & TCP_ACK &&
	    (__s32)(s->ack - flow->end[other].fin_end) >= 0)
		now |= FIN_ACKED_0 << other;
	if (now == before)
		return false;
	/* Packets of both directions may be here at the same time. */
	return (__sync_fetch_and_or((__u32 *)&flow->closing, now) | now) == FAST_CLOSED;
}

/* Delivers a packet to the pod at the other end, or returns TC_NEXT. */
static __always_inline int fast_deliver(struct __sk_buff *skb, const struct segment *s,
					const struct fast_end *to)
{
	if (!rewrite_segment(skb, s, to))
		return TC_NEXT;
	/* On a bridge it is addressed to the other pod, and for the node's end
	 * somebody else's. Before Linux 6.15 the pod would take it for that, too. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(to->ifindex, 0);
}

static __always_inline bool too_long(struct __sk_buff *skb, const struct fast_end *to)
{
	__u32 mtu = 0;

	if (!bpf_check_mtu(skb, to->ifindex, &mtu, 0, BPF_MTU_CHK_SEGS))
		return false;
	count_reason(REASON_FAST_MTU);
	return true;
}

/* Redirects a packet that comes after the end of its connection: another CPU had
 * it and was slower, or its sender did not believe in the end. On the stack,
 * conntrack would take it for a connection that it has missed the beginning of,
 * and keep that for minutes. */
static __always_inline int fast_forward_late(struct __sk_buff *skb, const struct segment *s)
{
	struct ended_val *ended = bpf_map_lookup_elem(&hd_fast_ended, &s->key);
	struct fast_end from, to;
	__u64 at_ns;

	if (!ended)
		return TC_NEXT;
	from = ended->flow.end[s->sender & 1];
	to = ended->flow.end[!s->sender];
	at_ns = ended->at_ns;
	/* The element may have been recycled while it was read. */
	barrier();
	if (ended->flow.tag != tag_of(&s->key) || from.ifindex != skb->ifindex ||
	    bpf_ktime_get_ns() - at_ns > FAST_ENDED_NS || too_long(skb, &to))
		return TC_NEXT;
	from.packets = packets_of(skb);
	from.bytes = skb->len;
	count_sent(&from, to.ifindex);
	return fast_deliver(skb, s, &to);
}

/* Redirects a packet from a pod, or returns TC_NEXT when that is not for the
 * fast path: the floor then looks at it. */
static __always_inline int fast_forward(struct __sk_buff *skb)
{
	struct segment s = {};
	struct fast_val *flow;
	struct fast_end to, *from;
	__u32 ifindex;

	if (!read_segment(skb, &s) || s.ttl <= 1)
		return TC_NEXT;
	if (s.flags & TCP_SYN) {
		/* The next connection of this name begins, on the stack. */
		bpf_map_delete_elem(&hd_fast_ended, &s.key);
		return TC_NEXT;
	}
	flow = bpf_map_lookup_elem(&hd_fast, &s.key);
	if (!flow)
		return fast_forward_late(skb, &s);
	from = &flow->end[s.sender & 1];
	ifindex = from->ifindex;
	to = flow->end[!s.sender];
	/* The element may have been recycled while it was read. */
	barrier();
	if (flow->tag != tag_of(&s.key) || ifindex != skb->ifindex)
		return TC_NEXT;
	if (too_long(skb, &to))
		return TC_NEXT;
	__sync_fetch_and_add(&from->packets, packets_of(skb));
	__sync_fetch_and_add(&from->bytes, skb->len);
	if ((s.flags & (TCP_FIN | TCP_RST) || flow->closing) && fast_ends(flow, &s)) {
		fast_remember(&s.key); /* first: no packet finds it in neither table */
		if (fast_remove(&s.key))
			forget_conntrack(skb, &s);
	}
	return fast_deliver(skb, &s, &to);
}

static __always_inline bool read_eth(struct __sk_buff *skb, __u8 *eth)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + ETH_HLEN > end)
		return false;
	__builtin_memcpy(eth, data, 12);
	return true;
}

/* The handshake is complete. */
static __always_inline void fast_start(struct __sk_buff *skb, const struct segment *s,
				       const struct handshake_val *hand, bool tracking)
{
	__u32 client = hand->client & 1;
	struct fast_val flow = { .tag = tag_of(&s->key), .client = client };
	struct fast_end to_client = { .ifindex = hand->client_ifindex, .ttl = hand->ttl };
	struct fast_end to_server = { .ifindex = hand->server_ifindex, .ttl = s->ttl };

	if (!read_eth(skb, to_server.eth))
		return;
	if (tracking && !known_to_conntrack(skb, s)) {
		count_reason(REASON_FAST_UNTRACKED);
		return;
	}
	__builtin_memcpy(to_client.eth, hand->eth, sizeof(to_client.eth));
	if (client) {
		flow.end[1] = to_client;
		flow.end[0] = to_server;
	} else {
		flow.end[0] = to_client;
		flow.end[1] = to_server;
	}
	if (!take_share(&hd_fast_use, &hand->client_ifindex, cfg_fast_share)) {
		count_reason(REASON_FAST_SHARE);
		return;
	}
	if (bpf_map_update_elem(&hd_fast, &s->key, &flow, BPF_NOEXIST)) {
		give_share(&hd_fast_use, &hand->client_ifindex);
		count_reason(REASON_FAST_FULL);
		return;
	}
	count_reason(REASON_FAST_PATH);
}

static __always_inline void on_syn_out(const struct segment *s, __u32 from, __u32 to)
{
	struct handshake_val hand = {
		.client_ifindex = from,
		.server_ifindex = to,
		.client = s->sender,
	};

	bpf_map_update_elem(&hd_handshakes, &s->key, &hand, BPF_ANY);
}

static __always_inline void on_syn_ack_out(struct __sk_buff *skb, const struct segment *s,
					   __u32 from, __u32 to)
{
	struct handshake_val *hand = bpf_map_lookup_elem(&hd_handshakes, &s->key);

	if (!hand || hand->client == s->sender || hand->client_ifindex != to ||
	    hand->server_ifindex != from) {
		count_reason(REASON_FAST_TRANSLATED);
		return;
	}
	if (!read_eth(skb, hand->eth))
		return;
	hand->ttl = s->ttl;
	hand->answered = 1;
	/* A server that answers a SYN has no connection of this name: what is
	 * known of an earlier one is over, however that ended. */
	fast_remove(&s->key);
}

static __always_inline void on_ack_out(struct __sk_buff *skb, const struct segment *s, __u32 from,
				       __u32 to, bool tracking)
{
	struct handshake_val *hand = bpf_map_lookup_elem(&hd_handshakes, &s->key), copy;

	if (!hand)
		return;
	copy = *hand;
	if (!copy.answered || copy.client != s->sender || copy.client_ifindex != from ||
	    copy.server_ifindex != to)
		return;
	if (bpf_map_delete_elem(&hd_handshakes, &s->key))
		return; /* another packet was faster, or it was evicted */
	if (!(s->flags & (TCP_FIN | TCP_RST)))
		fast_start(skb, s, &copy, tracking);
}

/* Watches a packet that leaves the stack for a pod. */
static __always_inline void fast_learn(struct __sk_buff *skb, const struct iface_val *iface)
{
	__u32 from = skb->ingress_ifindex, to = skb->ifindex;
	const struct iface_val *source;
	struct segment s = {};

	if (!from || from == to)
		return; /* from the node itself, or from the pod to itself */
	source = bpf_map_lookup_elem(&hd_ifaces, &from);
	if (!source || !read_segment(skb, &s))
		return;
	if (!(iface->flags & source->flags & IFACE_FAST)) {
		if ((s.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			count_reason(REASON_FAST_BARRED);
		return;
	}
	switch (s.flags & (TCP_SYN | TCP_ACK)) {
	case TCP_SYN:
		on_syn_out(&s, from, to);
		break;
	case TCP_SYN | TCP_ACK:
		on_syn_ack_out(skb, &s, from, to);
		break;
	case TCP_ACK:
		on_ack_out(skb, &s, from, to, iface->flags & IFACE_TRACKED);
		break;
	}
}

/* Ends a connection's fast path for user space: the packet carries its fast_key.
 * A program, because only programs change hd_fast_use without losing a count. */
SEC("tc")
int hd_fast_end(struct __sk_buff *skb)
{
	struct fast_key key;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &key, sizeof(key)))
		return TC_DROP;
	fast_remove(&key);
	return TC_NEXT;
}

#endif
