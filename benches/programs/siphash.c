/* SipHash-2-4 (Aumasson and Bernstein) of 64 bytes under a key, both from the packet. */
#include "packet.h"

#define ROUND_OF(v0, v1, v2, v3)                                                                                     \
	do {                                                                                                         \
		v0 += v1, v1 = ROTATE_LEFT_64(v1, 13), v1 ^= v0, v0 = ROTATE_LEFT_64(v0, 32);                        \
		v2 += v3, v3 = ROTATE_LEFT_64(v3, 16), v3 ^= v2;                                                     \
		v0 += v3, v3 = ROTATE_LEFT_64(v3, 21), v3 ^= v0;                                                     \
		v2 += v1, v1 = ROTATE_LEFT_64(v1, 17), v1 ^= v2, v2 = ROTATE_LEFT_64(v2, 32);                        \
	} while (0)

PROGRAM(siphash)
{
	u64 *at = (void *)(START(ctx) + PAYLOAD), *end = (void *)END(ctx);
	u64 v0 = 0x736f6d6570736575, v1 = 0x646f72616e646f6d, v2 = 0x6c7967656e657261, v3 = 0x7465646279746573;

	if (at + 10 > end)
		return SHORT_PACKET;
	v0 ^= at[0], v1 ^= at[1], v2 ^= at[0], v3 ^= at[1];
	at += 2;
#pragma clang loop unroll(disable)
	for (int word = 0; word < 8; word++) {
		v3 ^= *at;
		ROUND_OF(v0, v1, v2, v3);
		ROUND_OF(v0, v1, v2, v3);
		v0 ^= *at;
		at++;
	}
	v3 ^= 64ull << 56;
	ROUND_OF(v0, v1, v2, v3);
	ROUND_OF(v0, v1, v2, v3);
	v0 ^= 64ull << 56;
	v2 ^= 0xff;
	ROUND_OF(v0, v1, v2, v3);
	ROUND_OF(v0, v1, v2, v3);
	ROUND_OF(v0, v1, v2, v3);
	ROUND_OF(v0, v1, v2, v3);
	v0 ^= v1 ^ v2 ^ v3;
	return v0 ^ v0 >> 32;
}
