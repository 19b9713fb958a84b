// Parses Ethernet, up to two VLAN tags, IPv4 and IPv6, and counts frames and bytes by protocol.
// Drops fragments of IPv4, aborts on nothing, passes the rest.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

struct counts {
	__u64 frames;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct counts);
} by_protocol SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

enum reason { SHORT, UNKNOWN, FRAGMENT, PARSED };

static __always_inline void count_reason(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&reasons, &reason);

	if (count)
		*count += 1;
}

SEC("xdp")
int parse(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u16 protocol;
	void *next = eth + 1;
	__u32 key;

	if (next > end) {
		count_reason(SHORT);
		return XDP_DROP;
	}
	protocol = eth->h_proto;
	for (int tag = 0; tag < 2; tag++) {
		struct vlan_tag *vlan = next;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end) {
			count_reason(SHORT);
			return XDP_DROP;
		}
		protocol = vlan->protocol;
		next = vlan + 1;
	}
	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = next;

		if ((void *)(ip + 1) > end || ip->ihl < 5) {
			count_reason(SHORT);
			return XDP_DROP;
		}
		if (ip->frag_off & bpf_htons(0x3fff)) {
			count_reason(FRAGMENT);
			return XDP_DROP;
		}
		key = ip->protocol;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = next;

		if ((void *)(ip + 1) > end) {
			count_reason(SHORT);
			return XDP_DROP;
		}
		key = ip->nexthdr;
	} else {
		count_reason(UNKNOWN);
		return XDP_PASS;
	}
	struct counts *counts = bpf_map_lookup_elem(&by_protocol, &key);

	if (counts) {
		__sync_fetch_and_add(&counts->frames, 1);
		__sync_fetch_and_add(&counts->bytes, end - data);
	}
	count_reason(PARSED);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
