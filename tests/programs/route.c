// Asks for the way of many packets, with every flag, and whether packets fit: what was answered is left in a map.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define QUESTIONS 24

struct answer {
	struct bpf_fib_lookup params;
	long ret;
	__u64 flags;
	__u32 fits;
	__u32 mtu;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

// Last bytes of the network, host and so on: 10.A.0.B and fdA::B.
const volatile __u8 networks[16] = {0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
const volatile __u8 hosts[8] = {1, 2, 3, 255, 9, 2, 7, 0};
const volatile __u16 lengths[8] = {0, 100, 1300, 1399, 1400, 1401, 1500, 9000};
__u32 asked = 0;

static __always_inline __u32 spread(__u32 number)
{
	number ^= number >> 15;
	number *= 0x2c1b3c6d;
	number ^= number >> 12;
	number *= 0x297a2d39;
	return number ^ number >> 15;
}

static __always_inline void ask(void *ctx, __u32 index)
{
	__u32 choice = spread(index + 1);
	__u8 network = networks[choice & 15], host = hosts[choice >> 4 & 7];
	__u32 ifindex = 1 + (choice >> 24) % 5;
	struct answer answer = {};
	struct bpf_fib_lookup *params = &answer.params;

	answer.flags = choice >> 10 & 31;
	if ((choice >> 27) % 32 == 0)
		answer.flags |= 64;
	params->family = choice & 1 << 15 ? AF_INET : AF_INET6;
	if ((choice >> 16) % 64 == 0)
		params->family = 7;
	params->l4_protocol = 6;
	params->tot_len = lengths[choice >> 7 & 7];
	params->ifindex = ifindex;
	if (params->family == AF_INET6) {
		params->ipv6_src[0] = 0xb80d0120;
		params->ipv6_src[3] = 0x01000000;
		params->ipv6_dst[0] = 0x00fd | network << 8;
		params->ipv6_dst[3] = (__u32)host << 24;
		if (network == 12)
			params->ipv6_dst[0] = 0x80fe;
	} else {
		params->ipv4_src = 0x010200c0;
		params->ipv4_dst = 10 | network << 8 | host << 24;
		if (host == 255)
			params->ipv4_dst |= 0x00ff0000;
	}
	if (answer.flags & BPF_FIB_LOOKUP_TBID)
		params->tbid = network & 1 ? 100 : network & 2 ? 254 : 77;
	answer.ret = bpf_fib_lookup(ctx, params, sizeof(*params), answer.flags);
	answer.mtu = lengths[choice >> 20 & 7];
	answer.fits = bpf_check_mtu(ctx, ifindex % 5, &answer.mtu, (int)(choice >> 28) * 10 - 70, choice >> 27 & 1);
	index &= 2047;
	bpf_map_update_elem(&answers, &index, &answer, BPF_ANY);
}

SEC("xdp")
int route_xdp(struct xdp_md *ctx)
{
	__u32 first = asked;

	for (int i = 0; i < QUESTIONS; i++)
		ask(ctx, first + i);
	asked = first + QUESTIONS;
	return XDP_PASS;
}

SEC("tc")
int route_tc(struct __sk_buff *ctx)
{
	__u32 first = asked;

	for (int i = 0; i < QUESTIONS; i++)
		ask(ctx, first + i);
	asked = first + QUESTIONS;
	return 0;
}

SEC("xdp")
int too_short(struct xdp_md *ctx)
{
	struct bpf_fib_lookup params = {.family = AF_INET, .ifindex = 1};

	return bpf_fib_lookup(ctx, &params, sizeof(params) - 1, 0);
}

char _license[] SEC("license") = "GPL";
