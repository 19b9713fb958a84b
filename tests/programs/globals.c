// Global variables of every section, named and static, with offsets into arrays and structures.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct entry {
	__u32 weight;
	__u32 hits;
};

// .data
__u64 total = 1000;
static volatile __u32 rounds = 7;
struct entry entries[4] = { { 1, 0 }, { 2, 0 }, { 3, 0 }, { 4, 0 } };
// .bss
__u64 seen;
__u8 last_bytes[16];
static volatile __u32 quiet;
// .rodata
const volatile __u32 limit = 900;
const volatile __u16 table[8] = { 3, 1, 4, 1, 5, 9, 2, 6 };
static const char greeting[] = "kumite";
// Sections of their own
__u32 tuned SEC(".data.tuned") = 0x11223344;
const volatile __u32 fixed SEC(".rodata.fixed") = 5;

SEC("xdp")
int globals(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;
	__u32 len = end - data;

	seen += 1;
	total += len;
	if (data + 14 > end)
		return XDP_DROP;
	for (int i = 0; i < 14; i++)
		last_bytes[i] = data[i] ^ greeting[i & 3];
	__u32 which = data[13] & 3;

	entries[which].hits += entries[which].weight;
	rounds = rounds * 3 + table[data[12] & 7];
	quiet ^= rounds;
	tuned += fixed;
	if (len > limit)
		return XDP_DROP;
	data[0] = quiet;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
