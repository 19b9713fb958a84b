// A flow dissector: addresses and ports of IPv4 and IPv6, behind VLAN tags.
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct ports {
	__be16 source;
	__be16 dest;
};

static __always_inline int transport(struct __sk_buff *skb, struct bpf_flow_keys *keys, __u8 protocol)
{
	__u32 thoff = keys->thoff;
	struct ports *ports;

	keys->ip_proto = protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return protocol == IPPROTO_ICMP ? BPF_OK : BPF_DROP;
	if (thoff > 200)
		return BPF_DROP;
	ports = (void *)(long)skb->data + thoff;
	if ((void *)(ports + 1) > (void *)(long)skb->data_end)
		return BPF_DROP;
	keys->sport = ports->source;
	keys->dport = ports->dest;
	return BPF_OK;
}

SEC("flow_dissector")
int dissect(struct __sk_buff *skb)
{
	struct bpf_flow_keys *keys = skb->flow_keys;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 buffer[4] = { 1, 2, 3, 4 };
	__u32 nhoff = 14;
	int tag;

	if (bpf_skb_load_bytes(skb, keys->nhoff, buffer, sizeof(buffer)) == 0)
		keys->is_encap = 1;
	keys->flow_label = *(__u32 *)buffer;
#pragma clang loop unroll(full)
	for (tag = 0; tag < 2; tag++) {
		__be16 *inner = data + 14 + tag * 4;

		if (keys->n_proto != bpf_htons(ETH_P_8021Q))
			break;
		if ((void *)(inner + 2) > end)
			return BPF_DROP;
		keys->n_proto = inner[1];
		nhoff += 4;
	}
	keys->nhoff = keys->thoff = nhoff;
	if (keys->n_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + nhoff;

		if ((void *)(ip + 1) > end || ip->ihl < 5)
			return BPF_DROP;
		keys->addr_proto = ETH_P_IP;
		keys->ipv4_src = ip->saddr;
		keys->ipv4_dst = ip->daddr;
		keys->thoff += ip->ihl * 4;
		keys->is_frag = (ip->frag_off & bpf_htons(0x3fff)) != 0;
		if (keys->is_frag)
			return BPF_OK;
		return transport(skb, keys, ip->protocol);
	}
	if (keys->n_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + nhoff;

		if ((void *)(ip + 1) > end)
			return BPF_DROP;
		keys->addr_proto = ETH_P_IPV6;
		__builtin_memcpy(keys->ipv6_src, &ip->saddr, 32);
		keys->thoff += sizeof(*ip);
		return transport(skb, keys, ip->nexthdr);
	}
	return BPF_FLOW_DISSECTOR_CONTINUE;
}

// Offsets that no header has: the caller keeps them in the frame.
SEC("flow_dissector")
int anywhere(struct __sk_buff *skb)
{
	struct bpf_flow_keys *keys = skb->flow_keys;
	__u16 *data = (void *)(long)skb->data;

	if ((void *)(data + 4) > (void *)(long)skb->data_end)
		return BPF_DROP;
	keys->nhoff = data[0] & data[1] & 0x3ff;
	keys->thoff = data[2] & data[3];
	keys->flags = keys->n_proto;
	return data[0] & 0x1ff;
}

char _license[] SEC("license") = "Dual MIT/GPL";
