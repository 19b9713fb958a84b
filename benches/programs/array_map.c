/* Sixteen lookups in an array, each counted in place. */
#include "packet.h"

struct counter {
	u64 packets;
	u64 bytes;
};

ARRAY_MAP(counters, struct counter, 256);

PROGRAM(array_map)
{
	u8 *at = START(ctx) + PAYLOAD, *end = END(ctx);
	u32 found = 0;

#pragma clang loop unroll(disable)
	for (int byte = 0; byte < 16; byte++) {
		struct counter *counter;
		u32 key;

		if (at + 1 > end)
			return SHORT_PACKET;
		key = *at++;
		counter = lookup(&counters, &key);
		if (!counter)
			continue;
		counter->packets += 1;
		counter->bytes += key;
		found = found * 5 + key;
	}
	return found;
}
