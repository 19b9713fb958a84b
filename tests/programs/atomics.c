// Atomic operations of both widths on map values and global variables. Needs -mcpu=v3.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct cells {
	__u64 wide[6];
	__u32 narrow[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cells);
} cells SEC(".maps");

__u64 tickets;

SEC("xdp")
int atomics(struct xdp_md *ctx)
{
	__u64 *data = (void *)(long)ctx->data;
	__u64 *end = (void *)(long)ctx->data_end;
	__u32 zero = 0;
	struct cells *at = bpf_map_lookup_elem(&cells, &zero);

	if (!at || data + 4 > end)
		return XDP_DROP;
	__u64 a = data[0], b = data[1];

	data[2] = __sync_fetch_and_add(&at->wide[0], a);
	data[3] = __sync_fetch_and_or(&at->wide[1], b);
	data[0] = __sync_fetch_and_and(&at->wide[1], ~a);
	data[1] = __sync_fetch_and_xor(&at->wide[2], a ^ b);
	__sync_fetch_and_add(&at->wide[3], 1);
	data[2] ^= __sync_lock_test_and_set(&at->wide[4], a);
	data[3] ^= __sync_val_compare_and_swap(&at->wide[5], at->wide[5] & 1 ? 0 : at->wide[5], b | 1);

	__u32 *half = (__u32 *)data;

	half[0] ^= __sync_fetch_and_add(&at->narrow[0], (__u32)a);
	half[1] ^= __sync_fetch_and_or(&at->narrow[1], (__u32)b);
	half[2] ^= __sync_fetch_and_and(&at->narrow[1], (__u32)~a);
	half[3] ^= __sync_fetch_and_xor(&at->narrow[2], (__u32)(a ^ b));
	half[4] ^= __sync_lock_test_and_set(&at->narrow[4], (__u32)b);
	half[5] ^= __sync_val_compare_and_swap(&at->narrow[5], at->narrow[5], (__u32)a);
	return __sync_fetch_and_add(&tickets, 1) & 1 ? XDP_TX : XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
