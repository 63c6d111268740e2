/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, with its size. Sizes are defaults: the loader may lower or raise
 * them, and Go reads them from the map specs, never from here. Maps that only
 * user space writes are read-only to programs (BPF_F_RDONLY_PROG). */
#ifndef HD_MAPS_H
#define HD_MAPS_H

#define MAX_PODS 4096
#define MAX_SERVICES 65536
#define MAX_SPLITS 16384
#define MAX_CLUSTERS 65536
#define MAX_ENDPOINTS 262144
#define MAX_MEMBERS 262144
#define MAX_AFFINITIES 65536
#define MAX_FLOWS 16384
#define MAX_STATS 65536
#define MAX_REFUSALS 4096
#define MAX_OWN 64
#define MAX_OUTLIERS 16384
#define MAX_FAST 65536
#define MAX_HANDSHAKES 8192
#define MAX_ENDED 8192
#define MAX_BYPASS (MAX_PODS * MAX_POD_ADDRS)
#define MAX_SOCKS 16384 /* two for each connection */

#define HD_CONFIG (BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PODS);
	__uint(map_flags, HD_CONFIG);
	__type(key, __u64); /* network namespace cookie */
	__type(value, struct pod_val);
} hd_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__uint(map_flags, HD_CONFIG);
	__type(key, struct service_key);
	__type(value, struct service_val);
} hd_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SPLITS);
	__uint(map_flags, HD_CONFIG);
	__type(key, __u64);
	__type(value, struct split_val);
} hd_splits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CLUSTERS);
	__uint(map_flags, HD_CONFIG);
	__type(key, __u64);
	__type(value, struct cluster_val);
} hd_clusters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__uint(map_flags, HD_CONFIG);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint_val);
} hd_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_MEMBERS);
	__uint(map_flags, HD_CONFIG);
	__type(key, struct member_key);
	__type(value, struct member_val);
} hd_members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CLUSTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct load_val);
} hd_loads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_OUTLIERS);
	__type(key, struct outlier_key);
	__type(value, struct outlier_val);
} hd_outliers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_OWN);
	__uint(map_flags, HD_CONFIG);
	__type(key, __u64); /* cgroup id of a Heddle process */
	__type(value, __u8);
} hd_own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PODS);
	__uint(map_flags, HD_CONFIG);
	__type(key, __u32); /* ifindex, in the node's network namespace */
	__type(value, struct iface_val);
} hd_ifaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_AFFINITIES);
	__type(key, struct affinity_key);
	__type(value, struct affinity_val);
} hd_affinity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow_val);
} hd_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn_val);
} hd_conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct peers_val);
} hd_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_STATS);
	__type(key, struct stat_key);
	__type(value, struct stat_val);
} hd_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_REFUSALS);
	__type(key, struct refusal_key);
	__type(value, __u64);
} hd_refusals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} hd_reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32); /* ifindex */
	__type(value, struct iface_stat);
} hd_if_stats SEC(".maps");

/* It never evicts: conntrack does not know the window of a connection that
 * falls back to the stack in the middle, and may drop its packets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FAST);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fast_key);
	__type(value, struct fast_val);
} hd_fast SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BYPASS);
	__uint(map_flags, HD_CONFIG);
	__type(key, struct addr);
	__type(value, __u64); /* network namespace cookie */
} hd_bypass SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, MAX_SOCKS);
	__type(key, struct sock_key);
	__type(value, __u64); /* user space reads the socket's cookie */
} hd_socks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct bypass_val);
} hd_bypassed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SOCKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sock_key);
	__type(value, struct credit_val);
} hd_credit SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32); /* ifindex */
	__type(value, __u64); /* connections in hd_fast that its pod opened */
} hd_fast_use SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_HANDSHAKES);
	__type(key, struct fast_key);
	__type(value, struct handshake_val);
} hd_handshakes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ENDED);
	__type(key, struct fast_key);
	__type(value, struct ended_val);
} hd_fast_ended SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* network namespace cookie */
	__type(value, __u64); /* sockets that count against its share */
} hd_shares SEC(".maps");

#endif
