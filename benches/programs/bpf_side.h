/* Maps, helpers and sections as libbpf reads them. */
#pragma once

#define PROGRAM(name) __attribute__((section("xdp"), used)) int name(struct xdp_md *ctx)
#define FUNCTION static __attribute__((noinline))

#define MAP(kind, key_type, value_type, count, name)                                                                 \
	struct {                                                                                                     \
		int (*type)[kind];                                                                                   \
		key_type *key;                                                                                       \
		value_type *value;                                                                                   \
		int (*max_entries)[count];                                                                           \
	} name __attribute__((section(".maps"), used))
#define HASH_MAP(name, key_type, value_type, count) MAP(1, key_type, value_type, count, name)
#define ARRAY_MAP(name, value_type, count) MAP(2, u32, value_type, count, name)
#define PERCPU_ARRAY_MAP(name, value_type, count) MAP(6, u32, value_type, count, name)

typedef int (*program)(struct xdp_md *);
#define PROGRAM_ARRAY(name, count, ...)                                                                              \
	struct {                                                                                                     \
		int (*type)[3];                                                                                      \
		int (*key_size)[4];                                                                                  \
		int (*max_entries)[count];                                                                           \
		program values[];                                                                                    \
	} name __attribute__((section(".maps"), used)) = { .values = { __VA_ARGS__ } }
#define PROGRAM_SLOT(name) (void *)&name

static void *(*const lookup)(const void *map, const void *key) = (void *)1;
static long (*const update)(const void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const tail_call)(void *ctx, const void *programs, u32 index) = (void *)12;
#define TAIL_CALL(ctx, programs, index) tail_call(ctx, &programs, index)

char license_text[] __attribute__((section("license"), used)) = "GPL";
