/* Copies 512 bytes of the packet, a word at a time, as encapsulation does. */
#include "packet.h"

PROGRAM(copy)
{
	u64 *from = (void *)(START(ctx) + PAYLOAD), *end = (void *)END(ctx);
	u64 *to = (void *)(START(ctx) + PAYLOAD + 512);

#pragma clang loop unroll(disable)
	for (int word = 0; word < 64; word++) {
		if (from + 1 > end || to + 1 > end)
			return SHORT_PACKET;
		*to++ = *from++;
	}
	return 3;
}
