// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Moves what sockets remember from a storage map to another one with another
 * layout. User space cannot enumerate socket storage, only programs can: one
 * iterator hands the old values out, user space converts them, a second one
 * puts them into the new map. Both are attached to the old map. */
#include "kernel.h"

/* The iterator's context is a kernel type, relocated when it is loaded. */
struct seq_file;
struct sock;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
} __attribute__((preserve_access_index));

/* Bytes of an old value; set by the loader. */
const volatile __u32 cfg_old_size = 4;

/* Converted values by socket cookie. The loader sets the sizes of both maps. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, 8);
	__uint(value_size, 4);
} hd_converted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, 4);
	__uint(value_size, 4);
} hd_new SEC(".maps");

/* Writes the cookie and the old value of every socket, as they are. */
SEC("iter/bpf_sk_storage_map")
int hd_mig_read(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	void *value = ctx->value;
	__u64 cookie;

	if (!sk || !value)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	bpf_seq_write(ctx->meta->seq, &cookie, sizeof(cookie));
	bpf_seq_write(ctx->meta->seq, value, cfg_old_size);
	return 0;
}

/* A socket that has a new value by now was connected again meanwhile: the
 * helper leaves that value alone. */
SEC("iter/bpf_sk_storage_map")
int hd_mig_write(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	__u64 cookie;
	void *value;

	if (!sk)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	value = bpf_map_lookup_elem(&hd_converted, &cookie);
	if (value)
		bpf_sk_storage_get(&hd_new, sk, value, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
