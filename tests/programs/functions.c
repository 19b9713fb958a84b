// Functions that call functions, shared by several programs: visible ones, static ones, in both sections, with loops.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define own static __attribute__((noinline))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} results SEC(".maps");

own __u64 mix(__u64 value, __u32 by)
{
	value ^= value >> 33;
	value *= 0xff51afd7ed558ccdULL + by;
	value ^= value >> 29;
	return value;
}

// A visible function: the kernel checks it on its own.
__attribute__((noinline)) int scale(int value, int by)
{
	volatile int result = value;

	for (int i = 0; i < 10; i++) {
		if (i >= (by & 7))
			break;
		result += i;
	}
	return result;
}

own __u64 chain(__u64 value, __u32 rounds)
{
	for (__u32 i = 0; i < 16; i++) {
		if (i >= rounds)
			break;
		value = mix(value, i);
	}
	return value + scale((int)value & 0xff, 5);
}

own int record(__u32 at, __u64 value)
{
	__u64 *slot = bpf_map_lookup_elem(&results, &at);

	if (!slot)
		return -1;
	*slot += value;
	return 0;
}

SEC("xdp")
int short_chain(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;

	if (data + 14 > end)
		return XDP_DROP;
	__u64 value = chain(*(__u64 *)data, 3);

	record(0, value);
	return value & 1 ? XDP_PASS : XDP_TX;
}

SEC("xdp")
int long_chain(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;
	__u64 sum = 0;

	if (data + 14 > end)
		return XDP_DROP;
	for (int i = 0; i < 64; i++) {
		if (data + i + 1 > end)
			break;
		sum = sum * 31 + data[i];
	}
	sum = chain(sum, sum & 15);
	data[0] = sum;
	data[1] = sum >> 8;
	record(1, sum);
	record(2, 1);
	return scale(sum & 0x7f, 3) & 1 ? XDP_PASS : XDP_TX;
}

char _license[] SEC("license") = "Dual MIT/GPL";
