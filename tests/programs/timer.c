// Timers in values of an array and of a hash: what their functions are given and leave.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#define CLOCK_BOOTTIME 7

struct element {
	__u64 calls;
	struct bpf_timer timer;
	__u64 sum;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct element);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u64);
	__type(value, struct element);
} flows SEC(".maps");

static int tick(void *map, __u32 *key, struct element *element)
{
	element->calls++;
	element->sum += *key * 100 + 1;
	if (element->calls < 3)
		bpf_timer_start(&element->timer, 0, 0);
	return 0;
}

static int expire(void *map, __u64 *key, struct element *element)
{
	element->calls++;
	// A timer cannot cancel itself.
	element->sum += bpf_timer_cancel(&element->timer) * *key;
	return 0;
}

// The second is initialised and started; what is wrong is refused.
SEC("xdp")
int start_slots(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct element *element = bpf_map_lookup_elem(&slots, &key);
	int ret = 0;

	if (!element)
		return 0;
	ret = ret * 7 - bpf_timer_start(&element->timer, 0, 0);
	ret = ret * 7 - bpf_timer_cancel(&element->timer);
	ret = ret * 7 - bpf_timer_init(&element->timer, &slots, 5);
	ret = ret * 7 - bpf_timer_init(&element->timer, &slots, CLOCK_MONOTONIC);
	ret = ret * 7 - bpf_timer_init(&element->timer, &slots, CLOCK_BOOTTIME);
	ret = ret * 7 - bpf_timer_start(&element->timer, 0, 0);
	ret = ret * 7 - bpf_timer_set_callback(&element->timer, tick);
	ret = ret * 7 - bpf_timer_start(&element->timer, 0, 8);
	ret = ret * 7 - bpf_timer_start(&element->timer, 3600000000000ULL, 0);
	ret = ret * 7 - bpf_timer_cancel(&element->timer);
	ret = ret * 7 - bpf_timer_start(&element->timer, 0, 0);
	ret = ret * 7 - bpf_timer_set_callback(&element->timer, tick);
	ret = ret * 7 - bpf_timer_start(&element->timer, 0, 0);
	return ret;
}

static __always_inline int start_flow(__u64 key)
{
	struct element fresh = {.sum = key}, *element;

	if (bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST))
		return 1;
	element = bpf_map_lookup_elem(&flows, &key);
	if (!element || bpf_timer_init(&element->timer, &flows, CLOCK_REALTIME) ||
	    bpf_timer_set_callback(&element->timer, expire))
		return 2;
	return bpf_timer_start(&element->timer, 0, 0);
}

// Of three flows, one is gone and one is replaced before its time: neither calls anything.
SEC("xdp")
int start_flows(struct xdp_md *ctx)
{
	struct element other = {.sum = 5};
	__u64 gone = 10, replaced = 20;
	int ret = start_flow(10) + start_flow(20) * 10 + start_flow(19) * 100;

	bpf_map_delete_elem(&flows, &gone);
	bpf_map_update_elem(&flows, &replaced, &other, BPF_EXIST);
	ret += start_flow(10) * 1000;
	return ret;
}

char _license[] SEC("license") = "GPL";
