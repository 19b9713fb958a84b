/* Copies 128 bytes of the packet one by one. */
#include "packet.h"

PROGRAM(copy_bytes)
{
	u8 *from = START(ctx) + PAYLOAD, *to = from + 512, *end = END(ctx);

#pragma clang loop unroll(disable)
	for (int byte = 0; byte < 128; byte++) {
		if (from + 1 > end || to + 1 > end)
			return SHORT_PACKET;
		*to++ = *from++;
	}
	return 3;
}
