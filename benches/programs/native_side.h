/* Plain C tables that do what the kernel's maps do for one thread: an array with a bounds check; a hash table that hashes the
 * key, walks, compares and answers with the value's address. */
#pragma once

#include "jhash.h"

#define PROGRAM(name) __attribute__((visibility("default"))) int name(struct xdp_md *ctx)
#define FUNCTION static __attribute__((noinline))

struct table {
	u32 is_hash;
	u32 key_len;
	u32 value_len;
	/* Elements of an array; places of a hash table, a power of two, at least twice its elements. */
	u32 count;
	/* For who is to know what may be touched. */
	u32 stride;
	u8 *places;
};

#define ROUND(len) (((len) + 7u) & ~7u)
#define STRIDE(key_type, value_type) (8 + ROUND(sizeof(key_type)) + ROUND(sizeof(value_type)))
#define HASH_MAP(name, key_type, value_type, n)                                                                      \
	static u8 name##_places[2 * (n)*STRIDE(key_type, value_type)] __attribute__((aligned(64)));                  \
	__attribute__((visibility("default"))) const struct table name = {                                           \
		1, sizeof(key_type), sizeof(value_type), 2 * (n), STRIDE(key_type, value_type), name##_places        \
	}
#define ARRAY_MAP(name, value_type, n)                                                                               \
	static u8 name##_places[(n)*ROUND(sizeof(value_type))] __attribute__((aligned(64)));                         \
	__attribute__((visibility("default"))) const struct table name = {                                           \
		0, 4, sizeof(value_type), (n), ROUND(sizeof(value_type)), name##_places                              \
	}
/* One thread has one set of values. */
#define PERCPU_ARRAY_MAP(name, value_type, n) ARRAY_MAP(name, value_type, n)

ALWAYS_INLINE u8 *place(const struct table *table, const void *key)
{
	u32 index = jhash(key, table->key_len, 0);

	for (u32 step = 0; step < table->count; step++, index++) {
		u8 *at = table->places + (u64)(index & (table->count - 1)) * table->stride;

		if (!*(u64 *)at || !__builtin_memcmp(at + 8, key, table->key_len))
			return at;
	}
	return 0;
}

ALWAYS_INLINE void *lookup(const struct table *table, const void *key)
{
	u8 *at;

	if (!table->is_hash) {
		u32 index = *(const u32 *)key;

		return index < table->count ? table->places + (u64)index * table->stride : 0;
	}
	at = place(table, key);
	return at && *(u64 *)at ? at + 8 + ROUND(table->key_len) : 0;
}

ALWAYS_INLINE long update(const struct table *table, const void *key, const void *value, u64 flags)
{
	u8 *at;

	(void)flags;
	if (!table->is_hash) {
		at = lookup(table, key);
		if (!at)
			return -7;
	} else {
		at = place(table, key);
		if (!at)
			return -7;
		*(u64 *)at = 1;
		__builtin_memcpy(at + 8, key, table->key_len);
		at += 8 + ROUND(table->key_len);
	}
	__builtin_memcpy(at, value, table->value_len);
	return 0;
}

/* The same for the bench and for engines that are given helpers. */
__attribute__((visibility("default"), used)) void *table_lookup(const struct table *table, const void *key)
{
	return lookup(table, key);
}

__attribute__((visibility("default"), used)) long table_update(const struct table *table, const void *key, const void *value)
{
	return update(table, key, value, 0);
}

typedef int (*program)(struct xdp_md *);
#define PROGRAM_ARRAY(name, n, ...) static program volatile name[n] = { __VA_ARGS__ }
#define PROGRAM_SLOT(name) name
#define TAIL_CALL(ctx, programs, index)                                                                              \
	do {                                                                                                         \
		u32 chosen = (index);                                                                                \
		if (chosen < sizeof(programs) / sizeof(programs[0])) {                                               \
			program next = programs[chosen];                                                             \
			if (next)                                                                                    \
				__attribute__((musttail)) return next(ctx);                                          \
		}                                                                                                    \
	} while (0)
