// Functions that helpers call back: a loop over the packet's bytes, walks over an array, a hash and per-CPU values.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 100);
	__type(key, __u32);
	__type(value, __u64);
} squares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u64);
} lengths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u64);
} mine SEC(".maps");

struct bpf_map;

struct sum {
	struct xdp_md *xdp;
	__u64 bytes;
	__u64 calls;
};

static long add_byte(__u32 index, struct sum *sum)
{
	__u8 byte;

	if (bpf_xdp_load_bytes(sum->xdp, index, &byte, 1))
		return 1;
	sum->bytes += byte * (index + 1);
	sum->calls++;
	return 0;
}

SEC("xdp")
int sum_of_bytes(struct xdp_md *xdp)
{
	struct sum sum = {.xdp = xdp};
	long calls = bpf_loop(70, add_byte, &sum, 0);

	return (__u32)(sum.bytes * 31 + sum.calls * 7 + calls);
}

static long square(struct bpf_map *map, __u32 *key, __u64 *value, __u64 *total)
{
	*value = (__u64)*key * *key + *total;
	*total += *value & 0xff;
	return *key == 90;
}

static long add_value(struct bpf_map *map, __u16 *key, __u64 *value, __u64 *total)
{
	*total += *key * 1000 + *value;
	if (*value > 5)
		bpf_map_delete_elem(map, key);
	return 0;
}

SEC("xdp")
int walk_over_maps(struct xdp_md *xdp)
{
	__u16 length = (__u16)(xdp->data_end - xdp->data);
	__u64 one = 1, total = 0;
	long seen;

	__u64 *count = bpf_map_lookup_elem(&lengths, &length);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&lengths, &length, &one, BPF_ANY);
	count = bpf_map_lookup_elem(&mine, &length);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&mine, &length, &one, BPF_ANY);
	seen = bpf_for_each_map_elem(&squares, square, &total, 0);
	seen = seen * 100 + bpf_for_each_map_elem(&lengths, add_value, &total, 0);
	seen = seen * 100 + bpf_for_each_map_elem(&mine, add_value, &total, 0);
	return (__u32)(total * 17 + seen);
}

char _license[] SEC("license") = "GPL";
