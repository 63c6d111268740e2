/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The decision, to be asked from user space by a test run: over the same maps
 * as the hooks, without a connection.
 *
 * The question and the answer travel in a packet's bytes. A "syscall" program
 * would take them as its context, but it may sleep, and before Linux 6.1 such a
 * program cannot use hashes that are not preallocated. */
#ifndef HD_WHY_H
#define HD_WHY_H

SEC("tc")
int hd_why(struct __sk_buff *skb)
{
	struct connect_in in;
	struct connect_out out;

	if (bpf_skb_load_bytes(skb, 0, &in, sizeof(in)))
		return TC_DROP;
	decide(&in, &out);
	if (bpf_skb_store_bytes(skb, sizeof(in), &out, sizeof(out), 0))
		return TC_DROP;
	return TC_NEXT;
}

#endif
