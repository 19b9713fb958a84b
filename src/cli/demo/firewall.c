// A firewall: sources are blocked by prefix, ports by rule; each drop is counted and reported through a ring buffer.
//
// The object beside this file is built at the root of the repository by
//   clang-19 -O2 -g -Wall -target bpf -mcpu=v3 -I/usr/include/x86_64-linux-gnu -fdebug-compilation-dir=. \
//     -c src/cli/demo/firewall.c -o src/cli/demo/firewall.o
//   llvm-strip-19 -g src/cli/demo/firewall.o
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// What becomes of a packet that no rule names: XDP_PASS or XDP_DROP.
const volatile __u32 default_action = XDP_PASS;

enum reason { PASSED, MALFORMED, SOURCE, PORT, LOST_EVENT, REASONS };

struct prefix {
	__u32 len;
	__be32 address;
};

// Sources that are blocked; the value counts their packets.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u64);
} blocklist SEC(".maps");

struct service {
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct rule {
	__u32 action;
	__u32 zero;
	__u64 hits;
};

// What becomes of packets to a service.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct service);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct drop {
	__be32 source;
	__be32 target;
	__be16 port;
	__u8 protocol;
	__u8 reason;
	__u32 frame_len;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} drops SEC(".maps");

static __always_inline void count(__u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &reason);

	if (counter)
		*counter += 1;
}

static __attribute__((noinline)) int dropped(struct xdp_md *ctx, __u32 reason, __be16 port)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct drop *drop;

	count(reason);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
	if (!drop) {
		count(LOST_EVENT);
		return XDP_DROP;
	}
	drop->source = ip->saddr;
	drop->target = ip->daddr;
	drop->port = port;
	drop->protocol = ip->protocol;
	drop->reason = reason;
	drop->frame_len = ctx->data_end - ctx->data;
	bpf_ringbuf_submit(drop, 0);
	return XDP_DROP;
}

SEC("xdp")
int firewall(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(eth + 1) > end) {
		count(MALFORMED);
		return XDP_DROP;
	}
	if (eth->h_proto != bpf_htons(ETH_P_IP)) {
		count(PASSED);
		return XDP_PASS;
	}
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) {
		count(MALFORMED);
		return XDP_DROP;
	}
	struct prefix source = { 32, ip->saddr };
	__u64 *blocked = bpf_map_lookup_elem(&blocklist, &source);

	if (blocked) {
		__sync_fetch_and_add(blocked, 1);
		return dropped(ctx, SOURCE, 0);
	}
	__u32 action = default_action;
	struct service service = { 0, ip->protocol, 0 };

	if (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) {
		__be16 *ports = (void *)ip + ip->ihl * 4;

		if ((void *)(ports + 2) > end) {
			count(MALFORMED);
			return XDP_DROP;
		}
		service.port = ports[1];
	}
	struct rule *rule = bpf_map_lookup_elem(&rules, &service);

	if (rule) {
		__sync_fetch_and_add(&rule->hits, 1);
		action = rule->action;
	}
	if (action == XDP_DROP)
		return dropped(ctx, PORT, service.port);
	count(PASSED);
	return action;
}

char _license[] SEC("license") = "Dual MIT/GPL";
