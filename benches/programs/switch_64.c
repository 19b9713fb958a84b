/* Sixteen bytes of the packet, each of which chooses one of 64 ways. */
#include "packet.h"

/* Each way does something else, so that none can be looked up in a table of results. */
#define WAY(n)                                                                                                       \
	case n:                                                                                                      \
		state = (n) % 4 == 0 ? state + (n)*0x9e3779b1u :                                                     \
			(n) % 4 == 1 ? state ^ (n)*0x85ebca6bu :                                                     \
			(n) % 4 == 2 ? ROTATE_LEFT_32(state, (n) % 31 + 1) :                                         \
				       state * ((n)*2 + 3);                                                          \
		break;
#define WAYS_4(n) WAY(n) WAY(n + 1) WAY(n + 2) WAY(n + 3)
#define WAYS_16(n) WAYS_4(n) WAYS_4(n + 4) WAYS_4(n + 8) WAYS_4(n + 12)

PROGRAM(switch_64)
{
	u8 *at = START(ctx) + PAYLOAD, *end = END(ctx);
	u32 state = 1;

#pragma clang loop unroll(disable)
	for (int byte = 0; byte < 16; byte++) {
		if (at + 1 > end)
			return SHORT_PACKET;
		switch (*at++ & 63) {
			WAYS_16(0) WAYS_16(16) WAYS_16(32) WAYS_16(48)
		}
	}
	return state;
}
