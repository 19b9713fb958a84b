/* Sixteen counters of the processor's own. */
#include "packet.h"

PERCPU_ARRAY_MAP(counters, u64, 256);

PROGRAM(percpu_map)
{
	u8 *at = START(ctx) + PAYLOAD, *end = END(ctx);
	u32 found = 0;

#pragma clang loop unroll(disable)
	for (int byte = 0; byte < 16; byte++) {
		u64 *counter;
		u32 key;

		if (at + 1 > end)
			return SHORT_PACKET;
		key = *at++;
		counter = lookup(&counters, &key);
		if (!counter)
			continue;
		*counter += 1;
		found = found * 5 + key;
	}
	return found;
}
