// Checksums by bpf_csum_diff: answers pings, and rewrites addresses with an incremental update.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ICMP_ECHOREPLY 0
#define ICMP_ECHO 8

// <linux/icmp.h> asks for headers of 32-bit hosts.
struct icmphdr {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 rest;
};

__s64 last_diff;

static __always_inline __u16 fold(__u64 sum)
{
	for (int i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int answer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct icmphdr *icmp = (void *)(ip + 1);
	__u8 address[ETH_ALEN];
	__be32 source;

	if ((void *)(icmp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_ICMP)
		return XDP_PASS;
	if (icmp->type != ICMP_ECHO)
		return XDP_PASS;
	__builtin_memcpy(address, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, address, ETH_ALEN);
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;

	__be32 before = *(__be32 *)icmp;

	icmp->type = ICMP_ECHOREPLY;
	icmp->checksum = 0;

	__be32 after = *(__be32 *)icmp;

	// The old checksum is part of `before`, so it cancels out of the sum.
	__u64 sum = bpf_csum_diff(&before, 4, &after, 4, 0);

	icmp->checksum = fold(sum);
	return XDP_TX;
}

SEC("xdp")
int whole_header(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip->ttl -= 1;
	ip->check = 0;

	struct iphdr copy = *ip;

	last_diff = bpf_csum_diff(0, 0, (__be32 *)&copy, sizeof(copy), 0);
	ip->check = fold(last_diff);
	last_diff += bpf_csum_diff((__be32 *)&copy, sizeof(copy), 0, 0, 17);
	return XDP_TX;
}

char _license[] SEC("license") = "Dual MIT/GPL";
