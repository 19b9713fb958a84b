// Sends records through a ring buffer: reserved and submitted, reserved and discarded, and copied.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 number;
	__u32 len;
	__u8 head[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__u32 sent, lost, discarded;

SEC("xdp")
int events_of_frames(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;
	struct event *event;

	if (data + 14 > end)
		return XDP_DROP;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lost++;
		return XDP_ABORTED;
	}
	event->number = sent;
	event->len = end - data;
	__builtin_memcpy(event->head, data, sizeof(event->head));
	if (data[13] & 1) {
		discarded++;
		bpf_ringbuf_discard(event, 0);
		return XDP_TX;
	}
	sent++;
	bpf_ringbuf_submit(event, 0);

	__u64 copied = sent;

	if (bpf_ringbuf_output(&events, &copied, sizeof(copied), 0))
		lost++;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
