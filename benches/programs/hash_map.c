/* Sixteen lookups in a hash map, each counted in place; what is not there is put there. */
#include "packet.h"

struct key {
	u32 host;
	u32 port;
};

struct flow {
	u64 packets;
	u64 mark;
};

HASH_MAP(flows, struct key, struct flow, 1024);

PROGRAM(hash_map)
{
	u32 *at = (void *)(START(ctx) + PAYLOAD), *end = (void *)END(ctx);
	u32 found = 0;

#pragma clang loop unroll(disable)
	for (int pair = 0; pair < 16; pair++) {
		struct flow *flow;
		struct key key;

		if (at + 2 > end)
			return SHORT_PACKET;
		key.host = at[0];
		key.port = at[1] & 0xffff;
		at += 2;
		flow = lookup(&flows, &key);
		if (flow) {
			flow->packets += 1;
			found = found * 5 + (u32)flow->mark;
		} else {
			struct flow first = { 1, key.port };

			update(&flows, &key, &first, 0);
			found = found * 5 + key.port;
		}
	}
	return found;
}
