/* Thirty-two calls of two subprograms. */
#include "packet.h"

FUNCTION u32 mix(u32 state, u32 word)
{
	state ^= word;
	state *= 0x9e3779b1;
	return state ^ state >> 15;
}

FUNCTION u32 turn(u32 state, u32 word, u32 count)
{
	return (state << (count & 31)) + (word | 1) * 3;
}

PROGRAM(calls)
{
	u32 *at = (void *)(START(ctx) + PAYLOAD), *end = (void *)END(ctx);
	u32 state = 1;

#pragma clang loop unroll(disable)
	for (int word = 0; word < 16; word++) {
		if (at + 1 > end)
			return SHORT_PACKET;
		state = mix(state, *at);
		state ^= turn(state, *at, word);
		at++;
	}
	return state;
}
