/* A small load balancer in front of servers on the same link: parses, finds the service, hashes the flow, chooses a server
 * by a ring, counts, and readdresses the frame. */
#include "packet.h"
#include "headers.h"
#ifdef __bpf__
#include "jhash.h"
#endif

struct service_key {
	u32 addr;
	u16 port;
	u16 protocol;
};

struct service {
	u32 index;
	u32 ring_start;
};

struct server {
	u8 address[6];
	u16 mark;
};

struct counter {
	u64 packets;
	u64 bytes;
};

#define RING_LEN 64

HASH_MAP(services, struct service_key, struct service, 64);
ARRAY_MAP(ring, u32, 256);
ARRAY_MAP(servers, struct server, 64);
ARRAY_MAP(counters, struct counter, 64);

PROGRAM(balancer)
{
	u8 *start = START(ctx), *end = END(ctx);
	struct ethernet *ethernet = (void *)start;
	struct ipv4 *ipv4 = (void *)(ethernet + 1);
	struct ports *ports = (void *)(ipv4 + 1);
	struct service_key key = {};
	struct service *service;
	struct counter *counter;
	struct server *server;
	u32 a, b, c, slot, *choice;
	u64 sum;

	if ((u8 *)(ports + 1) > end)
		return 1;
	if (ethernet->type != SWAP_16(ETHERTYPE_IPV4) || ipv4->version_len != 0x45)
		return 2;
	if (ipv4->protocol != PROTOCOL_TCP && ipv4->protocol != PROTOCOL_UDP)
		return 2;
	key.addr = ipv4->to;
	key.port = ports->to;
	key.protocol = ipv4->protocol;
	service = lookup(&services, &key);
	if (!service)
		return 2;
	a = b = c = JHASH_INITIAL + 12;
	a += ipv4->from, b += (u32)ports->from << 16 | ports->to, c += ipv4->protocol;
	JHASH_FINAL(a, b, c);
	slot = service->ring_start + c % RING_LEN;
	choice = lookup(&ring, &slot);
	if (!choice)
		return 1;
	server = lookup(&servers, choice);
	if (!server)
		return 1;
	counter = lookup(&counters, &service->index);
	if (!counter)
		return 1;
	counter->packets += 1;
	counter->bytes += end - start;
	__builtin_memcpy(ethernet->from, ethernet->to, 6);
	__builtin_memcpy(ethernet->to, server->address, 6);
	/* The mark goes into the type of service; the checksum follows it (RFC 1624). */
	sum = (u16)~ipv4->checksum;
	sum += (u16)~(u16)(ipv4->tos << 8) + (u16)((u8)server->mark << 8);
	ipv4->tos = server->mark;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ipv4->checksum = ~sum;
	return 3;
}
