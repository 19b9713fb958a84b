// A load balancer of tail calls: `balance` picks a backend by the flow, the backend's program rewrites the packet.
//
// The object beside this file is built at the root of the repository by
//   clang-19 -O2 -g -Wall -target bpf -mcpu=v3 -I/usr/include/x86_64-linux-gnu -fdebug-compilation-dir=. \
//     -c src/cli/demo/balancer.c -o src/cli/demo/balancer.o
//   llvm-strip-19 -g src/cli/demo/balancer.o
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define BACKENDS 4
#define own static __attribute__((noinline))

// What is balanced: UDP to this port.
const volatile __be16 service_port = bpf_htons(9000);
// Slots of `backends` that are used.
const volatile __u32 backend_count = 3;
// Where the backends are; the last answers for the host itself.
const volatile __be32 backend_address[BACKENDS] = {
	bpf_htonl(0x0a010001), bpf_htonl(0x0a010002), bpf_htonl(0x0a010003), bpf_htonl(0x0a010004),
};

struct counts {
	__u64 frames;
	__u64 bytes;
};

// By backend; the last counts what no backend took.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BACKENDS + 1);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

int backend_0(struct xdp_md *ctx);
int backend_1(struct xdp_md *ctx);
int backend_local(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, BACKENDS);
	__type(key, __u32);
	__array(values, int (struct xdp_md *));
} backends SEC(".maps") = {
	.values = {
		[0] = (void *)&backend_0,
		[1] = (void *)&backend_1,
		[2] = (void *)&backend_local,
	},
};

struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

static __always_inline struct packet *packet_of(struct xdp_md *ctx)
{
	struct packet *packet = (void *)(long)ctx->data;

	if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
		return 0;
	if (packet->eth.h_proto != bpf_htons(ETH_P_IP) || packet->ip.ihl != 5 || packet->ip.protocol != IPPROTO_UDP)
		return 0;
	return packet;
}

own int count(struct xdp_md *ctx, __u32 backend)
{
	struct counts *counts = bpf_map_lookup_elem(&counters, &backend);

	if (!counts)
		return 0;
	counts->frames += 1;
	counts->bytes += ctx->data_end - ctx->data;
	return 1;
}

// The sum after one 16-bit word of what it covers became another (RFC 1624).
static __always_inline __u16 replaced(__u16 check, __u16 before, __u16 after)
{
	__u32 sum = (__u16)~check + (__u16)~before + after;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u16 replaced_address(__u16 check, __be32 before, __be32 after)
{
	check = replaced(check, before & 0xffff, after & 0xffff);
	return replaced(check, before >> 16, after >> 16);
}

// Sends the packet on to a backend, with this host as its source.
own int forward(struct xdp_md *ctx, __u32 backend)
{
	struct packet *packet = packet_of(ctx);
	__u8 address[ETH_ALEN];

	if (!packet || backend >= BACKENDS)
		return XDP_ABORTED;
	__be32 before_source = packet->ip.saddr, before_target = packet->ip.daddr;
	__be32 source = before_target, target = backend_address[backend];

	packet->ip.saddr = source;
	packet->ip.daddr = target;
	packet->ip.check = replaced_address(packet->ip.check, before_source, source);
	packet->ip.check = replaced_address(packet->ip.check, before_target, target);
	// A sum of zero means that there is none.
	if (packet->udp.check) {
		__u16 check = replaced_address(packet->udp.check, before_source, source);

		check = replaced_address(check, before_target, target);
		packet->udp.check = check ? check : 0xffff;
	}
	__builtin_memcpy(address, packet->eth.h_dest, ETH_ALEN);
	__builtin_memcpy(packet->eth.h_dest, packet->eth.h_source, ETH_ALEN);
	__builtin_memcpy(packet->eth.h_source, address, ETH_ALEN);
	count(ctx, backend);
	return XDP_TX;
}

own __u32 flow_hash(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(ctx);

	if (!packet)
		return 0;
	__u32 hash = packet->ip.saddr ^ ((__u32)packet->udp.source << 16 | packet->udp.source);

	hash ^= hash >> 16;
	hash *= 0x7feb352d;
	hash ^= hash >> 15;
	hash *= 0x846ca68b;
	return hash ^ hash >> 16;
}

SEC("xdp")
int balance(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(ctx);

	if (!packet || packet->udp.dest != service_port)
		return XDP_PASS;
	__u32 used = backend_count;

	if (used)
		bpf_tail_call(ctx, &backends, flow_hash(ctx) % used);
	// No program is in the slot.
	count(ctx, BACKENDS);
	return XDP_DROP;
}

SEC("xdp")
int backend_0(struct xdp_md *ctx)
{
	return forward(ctx, 0);
}

SEC("xdp")
int backend_1(struct xdp_md *ctx)
{
	return forward(ctx, 1);
}

// Answers on this host: only the port becomes the next one.
SEC("xdp")
int backend_local(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(ctx);

	if (!packet)
		return XDP_ABORTED;
	__be16 before = packet->udp.dest, after = bpf_htons(bpf_ntohs(before) + 1);

	packet->udp.dest = after;
	if (packet->udp.check) {
		__u16 check = replaced(packet->udp.check, before, after);

		packet->udp.check = check ? check : 0xffff;
	}
	count(ctx, 2);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
