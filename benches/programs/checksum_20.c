/* The checksum of an IPv4 header, whose length the header says. */
#include "packet.h"
#include "headers.h"
#include "checksum.h"

PROGRAM(checksum_20)
{
	u8 *at = START(ctx) + sizeof(struct ethernet), *end = END(ctx);
	struct ipv4 *ipv4 = (void *)at;

	if (at + sizeof(*ipv4) > end)
		return SHORT_PACKET;
	return checksum(at, end, (ipv4->version_len & 15) * 4, 60);
}
