// Dynamic pointers: of a map's value and of a ring buffer, with bounds that hold and bounds that do not.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct value {
	__u8 bytes[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} values SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, long[8]);
} answers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

__u32 asked = 0;

SEC("xdp")
int memory(struct xdp_md *ctx)
{
	__u32 zero = 0, index = asked++ & 63;
	struct value *value = bpf_map_lookup_elem(&values, &zero);
	struct bpf_dynptr pointer, wrong;
	long answer[8] = {};
	__u8 choice[8];
	__u8 *byte;

	if (!value || bpf_xdp_load_bytes(ctx, 6, choice, sizeof(choice)))
		return XDP_DROP;
	answer[0] = bpf_dynptr_from_mem(value->bytes, 48, 0, &pointer);
	answer[1] = bpf_dynptr_write(&pointer, choice[0] & 63, choice, sizeof(choice), 0);
	answer[2] = bpf_dynptr_read(choice, sizeof(choice), &pointer, choice[1] & 63, 0);
	answer[3] = bpf_dynptr_read(choice, 4, &pointer, 0, choice[2] & 1);
	answer[4] = bpf_dynptr_write(&pointer, 44, choice, sizeof(choice), 1);
	byte = bpf_dynptr_data(&pointer, choice[3] & 63, 1);
	answer[5] = byte ? *byte : -1;
	answer[6] = bpf_dynptr_from_mem(value->bytes, 8, 1, &wrong);
	answer[7] = bpf_dynptr_read(choice, 4, &wrong, 0, 0);
	if (bpf_dynptr_data(&wrong, 0, 1))
		answer[7] = 1;
	bpf_map_update_elem(&answers, &index, answer, BPF_ANY);
	return XDP_PASS;
}

SEC("xdp")
int records(struct xdp_md *ctx)
{
	__u32 index = asked++ & 63;
	struct bpf_dynptr record;
	long answer[8] = {};
	__u8 choice[8];
	__u32 *word;

	if (bpf_xdp_load_bytes(ctx, 6, choice, sizeof(choice)))
		return XDP_DROP;
	answer[0] = bpf_ringbuf_reserve_dynptr(&ring, 8 + (choice[0] & 15), choice[1] % 8 == 0, &record);
	answer[1] = bpf_dynptr_write(&record, choice[2] & 15, choice, 4, 0);
	word = bpf_dynptr_data(&record, 4, 4);
	answer[2] = !!word;
	if (word)
		*word = index;
	answer[3] = bpf_dynptr_read(&answer[4], 8, &record, 0, 0);
	// What nobody wrote is not to be shown.
	answer[4] = 0;
	word = bpf_dynptr_data(&record, 0, 4);
	if (word)
		*word = 77;
	for (int at = 8; at < 24; at++)
		if (bpf_dynptr_write(&record, at, &choice[1], 1, 0))
			break;
	if (choice[3] & 1)
		bpf_ringbuf_submit_dynptr(&record, 0);
	else
		bpf_ringbuf_discard_dynptr(&record, 0);
	answer[5] = bpf_ringbuf_reserve_dynptr(&ring, 5000, 0, &record);
	bpf_ringbuf_discard_dynptr(&record, 0);
	bpf_map_update_elem(&answers, &index, answer, BPF_ANY);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
