/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters. They never decide anything: when a table is full, the least
 * recently used line is lost. */
#ifndef HD_COUNT_H
#define HD_COUNT_H

static __always_inline void count_reason(enum reason reason)
{
	__u32 key = reason;
	__u64 *count = bpf_map_lookup_elem(&hd_reasons, &key);

	if (count)
		(*count)++; /* per CPU */
}

static __always_inline void count_refusal(const struct connect_out *out)
{
	struct refusal_key key = { .service = out->service, .reason = out->reason };
	__u64 *count, zero = 0;

	count = bpf_map_lookup_elem(&hd_refusals, &key);
	if (!count) {
		bpf_map_update_elem(&hd_refusals, &key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&hd_refusals, &key);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
}

/* Counts a decision of a hook. */
static __always_inline void count_decision(const struct connect_out *out)
{
	count_reason(out->reason);
	if (out->verdict == VERDICT_REFUSE)
		count_refusal(out);
}

static __always_inline struct stat_val *stat_of(__u64 service, __u64 cluster,
						const struct addr *addr, __be16 port_be, bool create)
{
	struct stat_key key = {
		.service = service,
		.cluster = cluster,
		.addr = *addr,
		.port_be = port_be,
	};
	struct stat_val *stat, zero = {};

	stat = bpf_map_lookup_elem(&hd_stats, &key);
	if (!stat && create) {
		bpf_map_update_elem(&hd_stats, &key, &zero, BPF_NOEXIST);
		stat = bpf_map_lookup_elem(&hd_stats, &key);
	}
	return stat;
}

static __noinline void count_opened(__u64 service, __u64 cluster, const struct addr *addr,
				    __be16 port_be)
{
	struct stat_val *stat = stat_of(service, cluster, addr, port_be, true);

	if (stat)
		__sync_fetch_and_add(&stat->opened, 1);
}

static __noinline void count_established(const struct conn_val *conn)
{
	struct stat_val *stat = stat_of(conn->service, conn->cluster, &conn->endpoint_addr,
					conn->endpoint_port_be, false);

	if (stat)
		__sync_fetch_and_add(&stat->established, 1);
}

/* A line that was evicted since it was opened stays away: it would otherwise
 * come back with more closed than opened. */
static __noinline void count_closed(__u64 service, __u64 cluster, const struct addr *addr,
				    __be16 port_be)
{
	struct stat_val *stat = stat_of(service, cluster, addr, port_be, false);

	if (stat)
		__sync_fetch_and_add(&stat->closed, 1);
}

#endif
