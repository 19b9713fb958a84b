/* The checksum of a whole IPv4 packet, whose length its header says. */
#include "packet.h"
#include "headers.h"
#include "checksum.h"

PROGRAM(checksum_1500)
{
	u8 *at = START(ctx) + sizeof(struct ethernet), *end = END(ctx);
	struct ipv4 *ipv4 = (void *)at;

	if (at + sizeof(*ipv4) > end)
		return SHORT_PACKET;
	return checksum(at, end, SWAP_16(ipv4->len), 1500);
}
