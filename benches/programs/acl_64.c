/* 64 rules in order, each a network, a range of ports and a protocol; the packet meets the last. */
#include "packet.h"
#include "headers.h"

#define RULE(n)                                                                                                      \
	if ((from & (0xffffffffu << ((n) % 9 + 4))) == ((n)*0x01234567u & (0xffffffffu << ((n) % 9 + 4))) &&         \
	    to_port >= (n)*512 && to_port < (n)*512 + 700 && protocol == ((n) % 3 ? PROTOCOL_UDP : PROTOCOL_TCP))    \
		return 0x100 + (n);
#define RULES_4(n) RULE(n) RULE(n + 1) RULE(n + 2) RULE(n + 3)
#define RULES_16(n) RULES_4(n) RULES_4(n + 4) RULES_4(n + 8) RULES_4(n + 12)

PROGRAM(acl_64)
{
	struct ipv4 *ipv4 = (void *)(START(ctx) + sizeof(struct ethernet));
	struct ports *ports = (void *)(ipv4 + 1);
	u32 from, to_port;
	u8 protocol;

	if ((u8 *)(ports + 1) > END(ctx))
		return SHORT_PACKET;
	from = __builtin_bswap32(ipv4->from);
	to_port = SWAP_16(ports->to);
	protocol = ipv4->protocol;
	RULES_16(1) RULES_16(17) RULES_16(33) RULES_16(49)
	return 1;
}
