// Dynamic pointers of frames: parts, copies and bounds that the dice choose.
#include "kfuncs.h"

struct value {
	__u8 bytes[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} values SEC(".maps");

#define MAKE_XDP bpf_dynptr_from_xdp
#define MAKE_SKB bpf_dynptr_from_skb

// What a pointer says of itself, and of its bytes.
static __always_inline void tell(struct bpf_dynptr *whole)
{
	__u8 buffer[16] = {};
	__u64 word = 0;
	__u8 *part;

	note(bpf_dynptr_size(whole));
	note((bpf_dynptr_is_null(whole) & 255) * 2 + (bpf_dynptr_is_rdonly(whole) & 255));
	note(bpf_dynptr_read(&word, sizeof(word), whole, roll(80), roll(20) == 0));
	note(word);
	part = bpf_dynptr_slice(whole, roll(80), buffer, sizeof(buffer));
	note(part ? part[0] + (part[15] << 8) : -1);
	part = bpf_dynptr_slice(whole, roll(80), 0, 4);
	note(part ? part[3] : -1);
	note(bpf_dynptr_data(whole, roll(4), 1) != 0);
}

// A frame's pointer is cut, cloned, and cut again.
#define PARTS(make, ctx)                                                                                              \
	struct bpf_dynptr whole, clone;                                                                               \
	note(make(ctx, roll(20) == 0, &whole));                                                                       \
	tell(&whole);                                                                                                 \
	note(bpf_dynptr_adjust(&whole, roll(30), roll(110)));                                                         \
	note(bpf_dynptr_clone(&whole, &clone));                                                                       \
	note(bpf_dynptr_adjust(&whole, roll(10), roll(60)));                                                          \
	tell(&whole);                                                                                                 \
	tell(&clone);                                                                                                 \
	return 0;

// Bytes are written by every means, also where they cannot be.
#define WRITES(make, ctx)                                                                                             \
	struct bpf_dynptr whole, other, memory;                                                                       \
	struct value *value;                                                                                          \
	__u32 zero = 0;                                                                                               \
	__u64 word = state;                                                                                           \
	value = bpf_map_lookup_elem(&values, &zero);                                                                  \
	if (!value)                                                                                                   \
		return 0;                                                                                             \
	note(make(ctx, 0, &whole));                                                                                   \
	note(make(ctx, roll(20) == 0, &other));                                                                       \
	note(bpf_dynptr_from_mem(value->bytes, 48, 0, &memory));                                                      \
	note(bpf_dynptr_adjust(&whole, 12 + roll(30), 40 + roll(60)));                                                \
	note(bpf_dynptr_adjust(&memory, roll(8), 8 + roll(40)));                                                      \
	note(bpf_dynptr_write(&whole, roll(40), &word, sizeof(word), roll(12)));                                      \
	note(bpf_dynptr_memset(&whole, roll(60), roll(20), roll(256)));                                               \
	note(bpf_dynptr_memset(&memory, roll(40), roll(20), roll(256)));                                              \
	note(bpf_dynptr_memset(&other, 14 + roll(100), roll(6), roll(256)));                                          \
	note(bpf_dynptr_copy(&memory, roll(20), &whole, roll(30), roll(30)));                                         \
	note(bpf_dynptr_copy(&whole, roll(30), &memory, roll(20), roll(30)));                                         \
	note(bpf_dynptr_copy(&whole, roll(30), &other, roll(90), roll(30)));                                          \
	note(bpf_dynptr_copy(&memory, roll(20), &memory, roll(20), roll(20)));                                        \
	return 0;

STEP xdp_parts_step(struct xdp_md *ctx)
{
	PARTS(bpf_dynptr_from_xdp, ctx)
}

SEC("xdp")
int xdp_parts(struct xdp_md *ctx)
{
	shake_frame(ctx);
	EIGHT_TIMES(xdp_parts_step, ctx);
	return answer_sum;
}

STEP xdp_writes_step(struct xdp_md *ctx)
{
	WRITES(bpf_dynptr_from_xdp, ctx)
}

// A frame that has lost or won bytes since its pointer was made.
STEP xdp_stale_step(struct xdp_md *ctx)
{
	struct bpf_dynptr whole;
	__u8 buffer[24] = {};
	__u8 *part;

	note(bpf_dynptr_from_xdp(ctx, 0, &whole));
	note(bpf_xdp_adjust_tail(ctx, 40 - (int)roll(80)));
	tell(&whole);
	part = bpf_dynptr_slice_rdwr(&whole, 14 + roll(80), buffer, sizeof(buffer));
	if (part) {
		note(part[0]);
		part[0] = roll(256);
		part[23] = roll(256);
	}
	note(buffer[0] + buffer[23]);
	note(bpf_dynptr_memset(&whole, 14 + roll(100), roll(30), roll(256)));
	note(bpf_dynptr_copy(&whole, 14 + roll(80), &whole, roll(80), roll(40)));
	return 0;
}

SEC("xdp")
int xdp_writes(struct xdp_md *ctx)
{
	shake_frame(ctx);
	EIGHT_TIMES(xdp_writes_step, ctx);
	EIGHT_TIMES(xdp_stale_step, ctx);
	return answer_sum;
}

STEP tc_parts_step(struct __sk_buff *skb)
{
	PARTS(bpf_dynptr_from_skb, skb)
}

STEP tc_writes_step(struct __sk_buff *skb)
{
	WRITES(bpf_dynptr_from_skb, skb)
}

STEP tc_stale_step(struct __sk_buff *skb)
{
	struct bpf_dynptr whole;
	__u8 buffer[24] = {};
	__u8 *part;

	note(bpf_dynptr_from_skb(skb, 0, &whole));
	note(bpf_skb_change_tail(skb, skb->len + roll(20), 0));
	tell(&whole);
	note(bpf_dynptr_memset(&whole, 14 + roll(100), roll(30), roll(256)));
	note(bpf_dynptr_copy(&whole, 14 + roll(80), &whole, roll(80), roll(40)));
	// Without a buffer the kernel hands out what lies behind the end of a packet that has shrunk.
	note(bpf_skb_change_tail(skb, 40 + roll(80), 0));
	note(bpf_dynptr_read(&buffer, 8, &whole, roll(90), 0));
	note(bpf_dynptr_write(&whole, roll(90), "written", 7, roll(4)));
	part = bpf_dynptr_slice_rdwr(&whole, 14 + roll(80), buffer, sizeof(buffer));
	if (part) {
		note(part[0]);
		part[0] = roll(256);
		part[23] = roll(256);
	}
	return 0;
}

SEC("tc")
int tc_parts(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(tc_parts_step, skb);
	return answer_sum;
}

SEC("tc")
int tc_writes(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(tc_writes_step, skb);
	EIGHT_TIMES(tc_stale_step, skb);
	return answer_sum;
}

// A socket filter's pointers are only to be read.
SEC("socket")
int filter_parts(struct __sk_buff *skb)
{
	struct bpf_dynptr whole;
	__u64 word = 1;

	shake(skb);
	note(bpf_dynptr_from_skb(skb, 0, &whole));
	tell(&whole);
	note(bpf_dynptr_adjust(&whole, roll(30), roll(110)));
	tell(&whole);
	note(bpf_dynptr_write(&whole, 0, &word, sizeof(word), 0));
	note(bpf_dynptr_memset(&whole, 0, 4, 1));
	note(bpf_dynptr_copy(&whole, 0, &whole, 4, 4));
	return answer_sum;
}
