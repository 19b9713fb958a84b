/* Jenkins' hash of 60 bytes, of a length that the packet says. */
#include "packet.h"
#ifdef __bpf__
#include "jhash.h"
#endif

PROGRAM(jhash_60)
{
	u8 *at = START(ctx) + PAYLOAD, *end = END(ctx);
	u32 a, b, c, left;

	if (at + 4 > end)
		return SHORT_PACKET;
	left = at[0];
	a = b = c = JHASH_INITIAL + left + at[1];
	at += 4;
	for (u32 round = 0; round < 16; round++) {
		const u32 *words = (void *)at;

		if (left <= 12 || at + 12 > end)
			break;
		a += words[0], b += words[1], c += words[2];
		JHASH_MIX(a, b, c);
		at += 12;
		left -= 12;
	}
	if (at + 12 <= end) {
		const u32 *words = (void *)at;

		a += words[0], b += words[1], c += words[2];
		JHASH_FINAL(a, b, c);
	}
	return c;
}
