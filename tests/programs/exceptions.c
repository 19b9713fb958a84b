// Runs that end at once, from however deep.
#include "dice.h"

extern void bpf_throw(__u64 cookie) __ksym;

static __attribute__((noinline)) int lowest(__u32 choice)
{
	if (choice < 2)
		bpf_throw(choice + 40);
	return choice * 3;
}

static __attribute__((noinline)) int middle(__u32 choice)
{
	int got = lowest(choice & 3);

	if (choice > 12)
		bpf_throw(note(got) + 1000);
	return got + 1;
}

SEC("xdp")
int throws(struct xdp_md *ctx)
{
	int got;

	shake_frame(ctx);
	note(7);
	got = middle(roll(16));
	note(got);
	if (got > 8)
		bpf_throw(2);
	return got;
}

int throws(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} next SEC(".maps") = {
	.values = { [0] = (void *)&throws },
};

SEC("xdp")
int jumps(struct xdp_md *ctx)
{
	note(1);
	bpf_tail_call(ctx, &next, 0);
	return 1;
}
