/* What the programs share: the same source is BPF for the engines, and native code for the two columns beside them.
 * Operands lie in the packet, behind its headers, because the kernel folds what it knows when it verifies. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* The kernel's `struct xdp_md`: 32-bit fields that hold pointers. The native columns run on memory below 4 GiB. */
struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define START(ctx) ((u8 *)(unsigned long)(ctx)->data)
#define END(ctx) ((u8 *)(unsigned long)(ctx)->data_end)

/* Ethernet 14, IPv4 20, UDP 8. */
#define PAYLOAD 42
/* What a program answers to a packet that is too short for it. */
#define SHORT_PACKET 0xffffffff

#define ROTATE_LEFT_32(x, n) ((u32)((x) << (n)) | ((x) >> (32 - (n))))
#define ROTATE_LEFT_64(x, n) ((u64)((x) << (n)) | ((x) >> (64 - (n))))

#ifdef __bpf__
#include "bpf_side.h"
#else
#include "native_side.h"
#endif
