/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading an element of a hash while user space may replace or delete it.
 *
 * The kernel gives a replaced element's memory to the next element at once,
 * without waiting for readers: a pointer from a lookup may show another key's
 * value a moment later. But an element does not change while it is linked. So
 * the value is copied and the key looked up again: the same pointer means that
 * the copy is this key's value. */
#ifndef HD_COPY_H
#define HD_COPY_H

enum copied {
	COPIED,
	ABSENT,
	CHANGED, /* replaced meanwhile: read again */
};

#define copy_elem(map, key, val)                                             \
	({                                                                   \
		typeof(val) elem = bpf_map_lookup_elem(map, key);            \
		enum copied copied = ABSENT;                                 \
		if (elem) {                                                  \
			*(val) = *elem;                                      \
			barrier();                                           \
			copied = still_at(map, key, elem) ? COPIED : CHANGED; \
		}                                                            \
		copied;                                                      \
	})

#define still_at(map, key, elem) (bpf_map_lookup_elem(map, key) == (void *)(elem))

#endif
