// SYN cookies without a socket: segment sizes, refusals, and whether a cookie checks. The number itself is a secret's.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct answer {
	long size;
	long good, late, other;
	long refused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

__u32 asked = 0;

struct headers {
	struct tcphdr tcp;
	__u8 options[40];
};

// What a cookie leaves beyond itself, or why there is none.
static __always_inline long size_of(__s64 cookie)
{
	return cookie < 0 ? cookie : cookie >> 32;
}

static __always_inline int make(struct xdp_md *ctx, struct headers *headers, __u32 *len)
{
	__u8 choice[4];

	if (bpf_xdp_load_bytes(ctx, 0, headers, 52) || bpf_xdp_load_bytes(ctx, 6, choice, 4))
		return -1;
	// Options that are likely to be some.
	for (int i = 0; i < 40; i++)
		if (choice[0] & 1)
			headers->options[i] &= i & 1 ? 7 : 3;
	if (choice[0] & 2) {
		headers->options[0] = 2;
		headers->options[1] = 4;
		headers->options[2] = choice[1] & 15;
	}
	headers->tcp.doff = 5 + (choice[2] & 7);
	headers->tcp.syn = 1;
	headers->tcp.ack = headers->tcp.fin = headers->tcp.rst = 0;
	*len = headers->tcp.doff * 4;
	if ((choice[3] & 15) == 0)
		*len = choice[2] & 63;
	if (*len < 1 || *len > 60)
		*len = 20;
	return 0;
}

SEC("xdp")
int cookies_4(struct xdp_md *ctx)
{
	struct headers headers = {};
	struct answer answer = {};
	struct iphdr ip = {.version = 4, .ihl = 5, .protocol = IPPROTO_TCP};
	__u32 len, index = asked++ & 127;

	if (make(ctx, &headers, &len))
		return XDP_DROP;
	ip.saddr = bpf_htonl(0x0a000001 + index);
	ip.daddr = bpf_htonl(0x0a000100);
	__s64 cookie = bpf_tcp_raw_gen_syncookie_ipv4(&ip, &headers.tcp, len);

	answer.size = size_of(cookie);
	if (cookie >= 0) {
		headers.tcp.seq = bpf_htonl(bpf_ntohl(headers.tcp.seq) + 1);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 1);
		answer.good = bpf_tcp_raw_check_syncookie_ipv4(&ip, &headers.tcp);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 0x40000001);
		answer.late = bpf_tcp_raw_check_syncookie_ipv4(&ip, &headers.tcp);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 1);
		ip.saddr = ~ip.saddr;
		answer.other = bpf_tcp_raw_check_syncookie_ipv4(&ip, &headers.tcp);
	}
	answer.refused = bpf_tcp_raw_gen_syncookie_ipv4(&ip, &headers.tcp, 19);
	bpf_map_update_elem(&answers, &index, &answer, BPF_ANY);
	return XDP_PASS;
}

SEC("xdp")
int cookies_6(struct xdp_md *ctx)
{
	struct headers headers = {};
	struct answer answer = {};
	struct ipv6hdr ip = {.version = 6, .nexthdr = IPPROTO_TCP};
	__u32 len, index = asked++ & 127;

	if (make(ctx, &headers, &len))
		return XDP_DROP;
	ip.saddr.in6_u.u6_addr32[0] = bpf_htonl(0xfd000000);
	ip.saddr.in6_u.u6_addr32[3] = bpf_htonl(index);
	__s64 cookie = bpf_tcp_raw_gen_syncookie_ipv6(&ip, &headers.tcp, len);

	answer.size = size_of(cookie);
	if (cookie >= 0) {
		headers.tcp.seq = bpf_htonl(bpf_ntohl(headers.tcp.seq) + 1);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 1);
		answer.good = bpf_tcp_raw_check_syncookie_ipv6(&ip, &headers.tcp);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 0x40000001);
		answer.late = bpf_tcp_raw_check_syncookie_ipv6(&ip, &headers.tcp);
		headers.tcp.ack_seq = bpf_htonl((__u32)cookie + 1);
		ip.daddr.in6_u.u6_addr32[3] = 77;
		answer.other = bpf_tcp_raw_check_syncookie_ipv6(&ip, &headers.tcp);
	}
	index += 128;
	bpf_map_update_elem(&answers, &index, &answer, BPF_ANY);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
