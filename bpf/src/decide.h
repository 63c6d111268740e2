/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of a connection. These functions read maps and change nothing:
 * the hooks, `heddlectl why` and the tests all get the same answer from them. */
#ifndef HD_DECIDE_H
#define HD_DECIDE_H

#define NONE (~0U)
#define TRIES 3
#define REDRAWS 8 /* of an endpoint, when the one that was drawn is ejected */

/* A 64-bit number is enough for every draw of a connection: each takes the
 * remainder of what the one before left over. Weights stay exact as long as
 * columns * total * endpoints is far below 2^64. */
static __always_inline __u32 take(__u64 *rnd, __u64 n)
{
	__u64 r = *rnd;

	*rnd = r / n;
	return r % n;
}

static __always_inline enum copied find_service(const struct connect_in *in, __u64 scope,
						struct service_val *service, __u64 *matched)
{
	struct service_key key = {
		.addr = in->addr,
		.port_be = in->port_be,
		.proto = in->proto,
	};
	struct service_val scoped;
	enum copied copied;

	*matched = 0;
	copied = copy_elem(&hd_services, &key, service);
	if (copied != COPIED || !(service->flags & SERVICE_SCOPED))
		return copied;

	key.scope = scope;
	copied = copy_elem(&hd_services, &key, &scoped);
	if (copied == ABSENT)
		return service->flags & SERVICE_VARIANTS ? ABSENT : COPIED;
	if (copied == COPIED) {
		*service = scoped;
		*matched = scope;
	}
	return copied;
}

static __always_inline bool is_ejected(const struct connect_in *in, __u64 cluster,
				       const struct addr *addr, __be16 port_be)
{
	struct outlier_key key = { .cluster = cluster, .addr = *addr, .port_be = port_be };
	const struct outlier_val *outlier = find(&hd_outliers, &key);

	return outlier && outlier->until_ns > in->now_ns;
}

/* What the policy of a cluster asks of a TCP connection; false: there are as many
 * as it lets be. Who connects has to take its place as well, see policy.h. */
static __always_inline bool apply_policy(const struct connect_in *in,
					 const struct cluster_val *cluster,
					 struct connect_out *out)
{
	const struct load_val *load;

	if (in->proto != IPPROTO_TCP)
		return true;
	out->connect_timeout_ms = cluster->connect_timeout_ms;
	out->max_failures = cluster->max_failures;
	out->max_connections = cluster->max_connections;
	if (!out->max_connections)
		return true;
	load = find(&hd_loads, &out->cluster);
	return !load || load->open < (__s64)out->max_connections;
}

/* The endpoint of this client's last connection, if that was not too long ago
 * and connections of the service may still use it. */
static __always_inline bool find_affinity(const struct connect_in *in, __u32 affinity_s,
					  struct connect_out *out)
{
	struct affinity_key key = { .service = out->service, .netns = in->netns };
	struct member_key member = { .service = out->service };
	const struct affinity_val *last;
	const struct member_val *found;

	last = find(&hd_affinity, &key);
	if (!last || in->now_ns >= last->last_ns + affinity_s * 1000000000ULL)
		return false;
	member.addr = last->addr;
	member.port_be = last->port_be;
	found = find(&hd_members, &member);
	if (!found || addr_is4(&member.addr) != addr_is4(&in->addr))
		return false;
	out->cluster = found->cluster;
	if (is_ejected(in, found->cluster, &member.addr, member.port_be))
		return false;
	out->addr = member.addr;
	out->port_be = member.port_be;
	return true;
}

static __always_inline enum reason draw_cluster(__u64 id, __u64 *rnd, struct connect_out *out)
{
	const struct split_val *split = find(&hd_splits, &id);
	__u32 columns, total, i, alias;

	if (!split)
		return REASON_TABLE_RACE;
	columns = split->columns;
	total = split->total;
	if (columns == 0 || total == 0)
		return REASON_WEIGHTS_ZERO;
	if (columns > MAX_COLUMNS)
		return REASON_TABLE_RACE;

	i = take(rnd, columns);
	hide(i);
	i &= MAX_COLUMNS - 1;
	out->column = i;
	if (take(rnd, total) >= split->column[i].cut) {
		alias = split->column[i].alias;
		hide(alias);
		i = alias & (MAX_COLUMNS - 1);
	}
	out->cluster = split->column[i].cluster;
	barrier();
	return still_at(&hd_splits, &id, split) ? REASON_NONE : REASON_TABLE_RACE;
}

static __always_inline enum reason draw_endpoint(const struct connect_in *in, __u64 rnd,
						 struct connect_out *out)
{
	struct endpoint_key key = { .cluster = out->cluster };
	const struct cluster_val *cluster;
	struct endpoint_val endpoint;
	__u32 count;

	cluster = find(&hd_clusters, &key.cluster);
	if (!cluster)
		return REASON_NO_ENDPOINT;
	count = cluster->count;
	if (count == 0)
		return cluster->flags & CLUSTER_LOCAL_ONLY ? REASON_NO_LOCAL_ENDPOINT :
							     REASON_NO_ENDPOINT;
	if (!apply_policy(in, cluster, out))
		return REASON_MAX_CONNECTIONS;
	for (int i = 0; i < REDRAWS; i++) {
		out->index = key.index = take(&rnd, count);
		if (copy_elem(&hd_endpoints, &key, &endpoint) != COPIED ||
		    endpoint.cluster != key.cluster)
			return REASON_TABLE_RACE;
		if (!out->max_failures ||
		    !is_ejected(in, key.cluster, &endpoint.addr, endpoint.port_be))
			break;
		rnd = (rnd + in->rnd + i) * 0x9e3779b97f4a7c15; /* what is left may be little */
		rnd ^= rnd >> 32;
	}
	if (addr_is4(&endpoint.addr) != addr_is4(&in->addr))
		return REASON_NO_ENDPOINT; /* not one that this socket can reach */
	out->addr = endpoint.addr;
	out->port_be = endpoint.port_be;
	return REASON_BALANCED;
}

/* One reading of the tables. TABLE_RACE means that they changed under it. */
static __noinline enum reason attempt(const struct connect_in *in, __u64 scope, __u64 rnd,
				      struct connect_out *out)
{
	struct service_val service;
	enum copied copied;
	enum reason reason;

	*out = (struct connect_out){ .column = NONE, .index = NONE };
	copied = find_service(in, scope, &service, &out->scope);
	if (copied == ABSENT)
		return REASON_NOT_SERVICE;
	if (copied == CHANGED)
		return REASON_TABLE_RACE;
	out->service = service.service;
	out->affinity_s = service.affinity_s;
	if (service.affinity_s && find_affinity(in, service.affinity_s, out)) {
		const struct cluster_val *cluster = find(&hd_clusters, &out->cluster);

		return !cluster || apply_policy(in, cluster, out) ? REASON_AFFINITY :
								    REASON_MAX_CONNECTIONS;
	}

	out->cluster = service.cluster;
	if (service.split) {
		reason = draw_cluster(service.split, &rnd, out);
		if (reason)
			return reason;
	}
	if (!out->cluster)
		return REASON_BACKEND_MISSING;
	return draw_endpoint(in, rnd, out);
}

static __always_inline enum verdict verdict_of(enum reason reason)
{
	switch (reason) {
	case REASON_NOT_ENROLLED:
	case REASON_OWN_SOCKET:
	case REASON_NOT_SERVICE:
	case REASON_PROTOCOL:
		return VERDICT_PASS;
	case REASON_BALANCED:
	case REASON_AFFINITY:
		return VERDICT_TRANSLATE;
	default:
		return VERDICT_REFUSE;
	}
}

static __always_inline enum verdict conclude(struct connect_out *out, enum reason reason)
{
	out->reason = reason;
	return out->verdict = verdict_of(reason);
}

/* The decision for a client that is known to be enrolled. */
static __always_inline enum verdict decide_enrolled(const struct connect_in *in, __u64 scope,
						    struct connect_out *out)
{
	enum reason reason = REASON_TABLE_RACE;
	__u64 rnd = in->rnd;

	*out = (struct connect_out){ .column = NONE, .index = NONE };
	if (find(&hd_own, &in->cgroup))
		return conclude(out, REASON_OWN_SOCKET);
	if (in->proto != IPPROTO_TCP && in->proto != IPPROTO_UDP)
		return conclude(out, REASON_PROTOCOL);
	for (int i = 0; i < TRIES; i++) {
		reason = attempt(in, scope, rnd, out);
		if (reason != REASON_TABLE_RACE)
			break;
		rnd = rnd << 21 | rnd >> 43;
	}
	return conclude(out, reason);
}

/* Finds the pod that lives in a network namespace. */
static __always_inline enum copied find_pod(__u64 netns, struct pod_val *pod)
{
	enum copied copied = CHANGED;

	for (int i = 0; i < TRIES && copied == CHANGED; i++)
		copied = copy_elem(&hd_pods, &netns, pod);
	return copied;
}

static __always_inline enum verdict decide(const struct connect_in *in, struct connect_out *out)
{
	struct pod_val pod;

	switch (find_pod(in->netns, &pod)) {
	case COPIED:
		return decide_enrolled(in, pod.scope, out);
	case ABSENT:
		*out = (struct connect_out){ .column = NONE, .index = NONE };
		return conclude(out, REASON_NOT_ENROLLED);
	case CHANGED:
		break;
	}
	*out = (struct connect_out){ .column = NONE, .index = NONE };
	return conclude(out, REASON_TABLE_RACE);
}

#endif
