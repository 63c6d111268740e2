/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading a hash while user space replaces its elements. An update links the
 * new element at the head of its bucket, then unlinks the old one and gives its
 * memory to the next element at once, without waiting for readers. So:
 *
 * - A reader that has passed the head when the new element comes, and reaches
 *   the old one's place when it is gone, finds neither. find looks again before
 *   it believes that there is nothing: for one writer the second look is enough.
 * - A pointer from a lookup may show another key's value a moment later. But an
 *   element does not change while it is linked. copy_elem copies the value and
 *   looks the key up again: the same pointer means that the copy is its value. */
#ifndef HD_COPY_H
#define HD_COPY_H

static __always_inline void *find(void *map, const void *key)
{
	void *elem = bpf_map_lookup_elem(map, key);

	return elem ? elem : bpf_map_lookup_elem(map, key);
}

enum copied {
	COPIED,
	ABSENT,
	CHANGED, /* replaced meanwhile: read again */
};

#define copy_elem(map, key, val)                                             \
	({                                                                   \
		typeof(val) elem = find(map, key);                           \
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
