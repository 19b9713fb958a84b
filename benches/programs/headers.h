/* Headers of packets: RFC 894, 791, 8200, 768, 9293 and IEEE 802.1Q. */
#pragma once

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17

#define SWAP_16(x) __builtin_bswap16(x)

struct ethernet {
	u8 to[6];
	u8 from[6];
	u16 type;
} __attribute__((packed, aligned(2)));

struct vlan {
	u16 tag;
	u16 type;
} __attribute__((packed, aligned(2)));

struct ipv4 {
	u8 version_len;
	u8 tos;
	u16 len;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u32 from;
	u32 to;
} __attribute__((packed, aligned(2)));

struct ipv6 {
	u32 flow;
	u16 len;
	u8 protocol;
	u8 hops;
	u32 from[4];
	u32 to[4];
} __attribute__((packed, aligned(2)));

struct ports {
	u16 from;
	u16 to;
} __attribute__((packed, aligned(2)));
