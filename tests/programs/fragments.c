// Frames of several fragments: read and written by offset, cut and lengthened, pulled together.
#include "kfuncs.h"

extern int bpf_xdp_pull_data(struct xdp_md *x, __u32 len) __ksym;

static __always_inline __u32 linear_len(struct xdp_md *ctx)
{
	__u64 len = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	// The verifier counts with pointers only where it sees what they point to.
	asm volatile("" : "+r"(len));
	return len;
}

static __always_inline __u32 meta_len(struct xdp_md *ctx)
{
	__u64 len = (void *)(long)ctx->data - (void *)(long)ctx->data_meta;

	asm volatile("" : "+r"(len));
	return len;
}

// Mostly near where a fragment may end.
static __always_inline __u32 place(struct xdp_md *ctx)
{
	__u32 linear = linear_len(ctx);
	__u32 near = roll(80) - 40;

	switch (roll(4)) {
	case 0:
		return roll(70000);
	case 1:
		return linear + near;
	case 2:
		return linear + roll(4) * 4096 + near;
	default:
		return bpf_xdp_get_buff_len(ctx) + near;
	}
}

static __always_inline void tell(struct xdp_md *ctx)
{
	note(bpf_xdp_get_buff_len(ctx));
	note(linear_len(ctx));
	note(meta_len(ctx));
}

STEP bytes_step(struct xdp_md *ctx)
{
	__u8 buffer[128] = {};
	__u64 sum = 0;
	int at;

	for (at = 0; at < 128; at++)
		buffer[at] = state >> (at & 31);
	note(bpf_xdp_store_bytes(ctx, place(ctx), buffer, 1 + roll(128)));
	note(bpf_xdp_load_bytes(ctx, place(ctx), buffer, 1 + roll(128)));
	for (at = 0; at < 128; at++)
		sum = sum * 31 + buffer[at];
	note(sum);
	return 0;
}

SEC("xdp.frags")
int bytes(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u32 mtu = 0;

	shake_frame(ctx);
	tell(ctx);
	EIGHT_TIMES(bytes_step, ctx);
	note(bpf_check_mtu(ctx, 0, &mtu, 0, 0));
	if (data + 1 <= (__u8 *)(long)ctx->data_end)
		data[0] = 0xab;
	return answer_sum;
}

STEP bounds_step(struct xdp_md *ctx)
{
	__u8 byte = 0xee;

	switch (roll(7)) {
	case 0:
		note(bpf_xdp_adjust_head(ctx, roll(80) - 40));
		break;
	case 1:
		note(bpf_xdp_adjust_meta(ctx, 4 * roll(20) - 40));
		break;
	case 2:
		note(bpf_xdp_adjust_tail(ctx, roll(400) - 200));
		break;
	case 3:
		note(bpf_xdp_adjust_tail(ctx, -(int)roll(9000)));
		break;
	case 4:
		note(bpf_xdp_adjust_tail(ctx, roll(5000)));
		break;
	case 5:
		note(bpf_xdp_pull_data(ctx, place(ctx)));
		break;
	default:
		note(bpf_xdp_pull_data(ctx, linear_len(ctx) + roll(300)));
	}
	tell(ctx);
	note(bpf_xdp_store_bytes(ctx, place(ctx), &byte, 1));
	return 0;
}

SEC("xdp.frags")
int bounds(struct xdp_md *ctx)
{
	shake_frame(ctx);
	EIGHT_TIMES(bounds_step, ctx);
	return answer_sum;
}

// What the kernel leaves where ranges overlap that lie in several pieces is what its memcpy leaves.
static __always_inline __u32 apart(__u32 to, __u32 from, __u32 len)
{
	__u32 distance = to < from ? from - to : to - from;

	return len < distance ? len : distance;
}

STEP pieces_step(struct xdp_md *ctx)
{
	struct bpf_dynptr whole, part;
	__u8 buffer[64] = {};
	__u64 word = state;
	__u32 start = roll(200);
	__u32 to = place(ctx), from = place(ctx);
	__u8 *piece;

	note(bpf_dynptr_from_xdp(ctx, 0, &whole));
	note(bpf_dynptr_size(&whole));
	note(bpf_dynptr_clone(&whole, &part));
	if (note(bpf_dynptr_adjust(&part, start, place(ctx))))
		start = 0;
	piece = bpf_dynptr_slice(&part, place(ctx), buffer, sizeof(buffer));
	note(piece ? piece[0] + (piece[63] << 8) : -1);
	piece = bpf_dynptr_slice(&whole, place(ctx), 0, 8);
	note(piece ? piece[0] + (piece[7] << 8) : -1);
	piece = bpf_dynptr_slice_rdwr(&whole, place(ctx), buffer, sizeof(buffer));
	if (piece) {
		note(piece[5]);
		piece[0] = roll(256);
		piece[63] = roll(256);
	}
	note(buffer[0] + buffer[63]);
	note(bpf_dynptr_write(&part, place(ctx), &word, sizeof(word), 0));
	note(bpf_dynptr_read(&word, sizeof(word), &whole, place(ctx), 0));
	note(word);
	note(bpf_dynptr_memset(&whole, place(ctx), roll(5000), roll(256)));
	note(bpf_dynptr_copy(&whole, to, &part, from, apart(to, start + from, roll(1200))));
	to = place(ctx);
	from = place(ctx);
	note(bpf_dynptr_copy(&whole, to, &whole, from, apart(to, from, roll(70))));
	return 0;
}

SEC("xdp.frags")
int pieces(struct xdp_md *ctx)
{
	shake_frame(ctx);
	EIGHT_TIMES(pieces_step, ctx);
	note(bpf_xdp_adjust_tail(ctx, -(int)roll(300)));
	EIGHT_TIMES(pieces_step, ctx);
	return answer_sum;
}
