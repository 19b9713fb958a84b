// Wraps IPv4 into IPv4 and unwraps it again, cuts and grows frames, and leaves metadata before them.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __be32 outer_source = bpf_htonl(0x0a000001);
const volatile __be32 outer_target = bpf_htonl(0x0a000002);

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u16 header_sum(struct iphdr *ip)
{
	__u16 *word = (__u16 *)ip;
	__u32 sum = 0;

#pragma clang loop unroll(full)
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += word[i];
	return fold(sum);
}

SEC("xdp")
int wrap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, *new_eth, saved;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	__u16 inner_len = bpf_ntohs(ip->tot_len);

	saved = *eth;
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	new_eth = data;
	ip = (void *)(new_eth + 1);
	if ((void *)(ip + 1) > end)
		return XDP_ABORTED;
	*new_eth = saved;
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(inner_len + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = outer_source;
	ip->daddr = outer_target;
	ip->check = header_sum(ip);
	return XDP_TX;
}

SEC("xdp")
int unwrap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, *new_eth, saved;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_IPIP)
		return XDP_PASS;
	saved = *eth;
	if (bpf_xdp_adjust_head(ctx, sizeof(struct iphdr)))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	new_eth = data;
	if ((void *)(new_eth + 1) > end)
		return XDP_ABORTED;
	*new_eth = saved;
	return XDP_PASS;
}

// The first byte of the payload says by how much: below 128 the frame is cut, else it grows.
SEC("xdp")
int resize(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u8 *by = data + sizeof(struct ethhdr);

	if ((void *)(by + 1) > end)
		return XDP_DROP;
	int delta = *by < 128 ? -(int)*by : *by - 128;

	if (bpf_xdp_adjust_tail(ctx, delta))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	by = data;
	if ((void *)(by + 1) > end)
		return XDP_DROP;
	*by = 0xee;
	return XDP_TX;
}

SEC("xdp")
int annotate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 len = end - data;
	__u32 *mark;

	if (bpf_xdp_adjust_meta(ctx, -8))
		return XDP_ABORTED;
	mark = (void *)(long)ctx->data_meta;
	data = (void *)(long)ctx->data;
	if ((void *)(mark + 2) > data)
		return XDP_ABORTED;
	mark[0] = 0x6b756d69;
	mark[1] = len;
	if (bpf_xdp_adjust_meta(ctx, 4))
		return XDP_ABORTED;
	mark = (void *)(long)ctx->data_meta;
	data = (void *)(long)ctx->data;
	if ((void *)(mark + 1) > data)
		return XDP_ABORTED;
	return mark[0] == len ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual MIT/GPL";
