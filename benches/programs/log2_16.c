/* Binary logarithms of sixteen numbers of the packet, by halves. */
#include "packet.h"

PROGRAM(log2_16)
{
	u64 *at = (void *)(START(ctx) + PAYLOAD), *end = (void *)END(ctx);
	u32 sum = 0;

#pragma clang loop unroll(disable)
	for (int word = 0; word < 16; word++) {
		u64 left;
		u32 log = 0;

		if (at + 1 > end)
			return SHORT_PACKET;
		left = *at++;
		if (left >> 32)
			log += 32, left >>= 32;
		if (left >> 16)
			log += 16, left >>= 16;
		if (left >> 8)
			log += 8, left >>= 8;
		if (left >> 4)
			log += 4, left >>= 4;
		if (left >> 2)
			log += 2, left >>= 2;
		if (left >> 1)
			log += 1;
		sum = sum * 3 + log;
	}
	return sum;
}
