/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shares: how much of a table one pod may take up, so that none uses it up. A
 * hash of counters holds how much each has. */
#ifndef HD_SHARE_H
#define HD_SHARE_H

static __always_inline bool take_share(void *shares, const void *owner, __u64 limit)
{
	__u64 *taken, none = 0;

	taken = bpf_map_lookup_elem(shares, owner);
	if (!taken) {
		bpf_map_update_elem(shares, owner, &none, BPF_NOEXIST);
		taken = bpf_map_lookup_elem(shares, owner);
	}
	if (!taken)
		return false;
	/* Signed: should a count ever be given back twice, the owner does not lose
	 * its share for good. */
	if ((__s64)__sync_fetch_and_add(taken, 1) < (__s64)limit)
		return true;
	__sync_fetch_and_add(taken, -1);
	return false;
}

static __always_inline void give_share(void *shares, const void *owner)
{
	__u64 *taken = bpf_map_lookup_elem(shares, owner);

	if (taken)
		__sync_fetch_and_add(taken, -1);
}

#endif
