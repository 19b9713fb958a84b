/* Reads headers as every filter does: Ethernet, at most two VLAN tags, IPv4 with options or IPv6, then ports. */
#include "packet.h"
#include "headers.h"

PROGRAM(parse)
{
	u8 *at = START(ctx), *end = END(ctx);
	struct ethernet *ethernet = (void *)at;
	struct ports *ports;
	u32 mixed;
	u16 type;
	u8 protocol;

	at += sizeof(*ethernet);
	if (at > end)
		return SHORT_PACKET;
	type = ethernet->type;
	for (int tags = 0; tags < 2; tags++) {
		struct vlan *vlan = (void *)at;

		if (type != SWAP_16(ETHERTYPE_VLAN))
			break;
		at += sizeof(*vlan);
		if (at > end)
			return SHORT_PACKET;
		type = vlan->type;
	}
	if (type == SWAP_16(ETHERTYPE_IPV4)) {
		struct ipv4 *ipv4 = (void *)at;
		u32 len;

		if (at + sizeof(*ipv4) > end)
			return SHORT_PACKET;
		len = (ipv4->version_len & 15) * 4;
		if (len < sizeof(*ipv4))
			return 1;
		protocol = ipv4->protocol;
		mixed = ipv4->from ^ ipv4->to;
		at += len;
	} else if (type == SWAP_16(ETHERTYPE_IPV6)) {
		struct ipv6 *ipv6 = (void *)at;

		at += sizeof(*ipv6);
		if (at > end)
			return SHORT_PACKET;
		protocol = ipv6->protocol;
		mixed = ipv6->from[3] ^ ipv6->to[3];
	} else {
		return 2;
	}
	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP)
		return 3;
	ports = (void *)at;
	if (at + sizeof(*ports) > end)
		return SHORT_PACKET;
	return mixed ^ protocol ^ (u32)ports->from << 16 ^ ports->to;
}
