/* Sixteen elements of an array replaced by the helper. */
#include "packet.h"

ARRAY_MAP(seen, u64, 256);

PROGRAM(array_update)
{
	u8 *at = START(ctx) + PAYLOAD, *end = END(ctx);
	u32 failed = 0;

#pragma clang loop unroll(disable)
	for (int byte = 0; byte < 16; byte++) {
		u64 value = byte;
		u32 key;

		if (at + 1 > end)
			return SHORT_PACKET;
		key = *at++;
		if (update(&seen, &key, &value, 0))
			failed++;
	}
	return failed;
}
