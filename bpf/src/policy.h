/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The policy of a cluster, as far as it is more than a decision: how many TCP
 * connections are open, how long they may take to connect, and which endpoints
 * they fail to reach. A connection without a policy pays for a branch. */
#ifndef HD_POLICY_H
#define HD_POLICY_H

static __always_inline struct load_val *load_of(const __u64 *cluster)
{
	struct load_val *load = bpf_map_lookup_elem(&hd_loads, cluster), none = {};

	if (!load) {
		bpf_map_update_elem(&hd_loads, cluster, &none, BPF_NOEXIST);
		load = bpf_map_lookup_elem(&hd_loads, cluster);
	}
	return load;
}

/* Takes one of the places of a cluster; the socket gives it back when it is
 * released. The decision looked before, so many at once may have been let in. */
static __always_inline bool take_place(const struct connect_out *out)
{
	struct load_val *load = load_of(&out->cluster);

	if (!load)
		return false;
	if (__sync_fetch_and_add(&load->open, 1) < (__s64)out->max_connections)
		return true;
	__sync_fetch_and_add(&load->open, -1);
	return false;
}

static __always_inline void give_place(const __u64 *cluster)
{
	struct load_val *load = bpf_map_lookup_elem(&hd_loads, cluster);

	if (load)
		__sync_fetch_and_add(&load->open, -1);
}

/* A socket whose connection a policy was for is closed, or connects again. */
static __always_inline void leave_policy(const struct conn_val *conn)
{
	if (conn->flags & CONN_LIMITED)
		give_place(&conn->cluster);
}

/* TCP_USER_TIMEOUT bounds the handshake as well. A program that set it knows
 * better; and so does the kernel before Linux 6.1, which does not tell. The first
 * retransmission is the earliest time at which it is looked at, after a second. */
static __always_inline void limit_handshake(struct bpf_sock_addr *ctx, struct conn_val *conn,
					    __u32 timeout_ms)
{
	__u32 own = 0;

	if (bpf_getsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof(own))) {
		count_reason(REASON_TIMEOUT_UNSET);
		return;
	}
	if (own)
		return;
	if (bpf_setsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms))) {
		count_reason(REASON_TIMEOUT_UNSET);
		return;
	}
	conn->timeout_ms = timeout_ms;
}

/* The handshake is over, or the socket connects again: from here on it takes as
 * long as the program wants, if it did not say so in the meantime. */
static __always_inline void unlimit(void *ctx, const struct conn_val *conn)
{
	__u32 own = 0, none = 0;

	if (!bpf_getsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof(own)) &&
	    own == conn->timeout_ms)
		bpf_setsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &none, sizeof(none));
}

static __always_inline struct outlier_key outlier_key_of(const struct conn_val *conn)
{
	return (struct outlier_key){
		.cluster = conn->cluster,
		.addr = conn->endpoint_addr,
		.port_be = conn->endpoint_port_be,
	};
}

static __always_inline void on_reached(const struct conn_val *conn)
{
	struct outlier_key key = outlier_key_of(conn);
	struct outlier_val *outlier = bpf_map_lookup_elem(&hd_outliers, &key);

	if (outlier)
		outlier->failures = 0;
}

/* Whether one more endpoint may be ejected now. The count begins anew when no
 * ejection lasts any more, so it is never below the ejections that do. */
static __always_inline bool may_eject(const __u64 *cluster, __u32 most, __u64 now, __u64 until)
{
	struct load_val *load = load_of(cluster);

	if (!load)
		return false;
	if (load->until_ns <= now)
		load->ejected = 0;
	if (__sync_fetch_and_add(&load->ejected, 1) >= most) {
		__sync_fetch_and_add(&load->ejected, -1);
		return false;
	}
	load->until_ns = until;
	return true;
}

/* A connection could not be made. */
static __noinline int on_failed(const struct conn_val *conn)
{
	const struct cluster_val *cluster;
	struct outlier_val *outlier, none = {};
	struct outlier_key key;
	__u64 now, until;
	__u32 most;

	if (!conn)
		return 0;
	key = outlier_key_of(conn);
	cluster = bpf_map_lookup_elem(&hd_clusters, &key.cluster);
	if (!cluster || !cluster->max_failures)
		return 0;
	outlier = bpf_map_lookup_elem(&hd_outliers, &key);
	if (!outlier) {
		bpf_map_update_elem(&hd_outliers, &key, &none, BPF_NOEXIST);
		outlier = bpf_map_lookup_elem(&hd_outliers, &key);
	}
	now = bpf_ktime_get_ns();
	if (!outlier || outlier->until_ns > now)
		return 0; /* of a connection that began before the ejection */
	if (__sync_fetch_and_add(&outlier->failures, 1) + 1 < cluster->max_failures)
		return 0;
	until = now + cluster->ejection_ms * 1000000ULL;
	most = cluster->max_ejected;
	if (!may_eject(&key.cluster, most, now, until))
		return 0;
	outlier->failures = 0;
	outlier->until_ns = until;
	count_reason(REASON_EJECTED);
	return 0;
}

#endif
