// Programs that tail-call one another out of a subprogram: activations nest until the limit, then return one by one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int hop(struct xdp_md *ctx);
int stride(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(struct xdp_md *));
} next SEC(".maps") = { .values = { &hop, &stride } };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __attribute__((noinline)) void count(__u32 at, __u64 by)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &at);

	if (value)
		*value = *value * 3 + by;
}

// Never returns into the one that tail-calls it: what it leaves behind is its caller's.
static __attribute__((noinline)) int jump(struct xdp_md *ctx, __u32 to)
{
	volatile __u64 mine = to;

	bpf_tail_call(ctx, &next, to);
	count(2, mine);
	return 1;
}

SEC("xdp")
int hop(struct xdp_md *ctx)
{
	volatile __u64 depth = ctx->data_end - ctx->data;
	int below;

	count(0, depth);
	below = jump(ctx, 1);
	count(1, depth + below);
	return below & 1 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int stride(struct xdp_md *ctx)
{
	int below;

	count(3, 1);
	below = jump(ctx, 0);
	if (below < 0)
		return XDP_ABORTED;
	count(1, below);
	return below + 2;
}
