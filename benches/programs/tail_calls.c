/* A chain of 33 tail calls through 33 programs, in an order that the packet says. */
#include "packet.h"

#define EACH(do)                                                                                                     \
	do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)        \
	do(16) do(17) do(18) do(19) do(20) do(21) do(22) do(23) do(24) do(25) do(26) do(27) do(28) do(29) do(30)     \
	do(31) do(32)

#define DECLARE(n) PROGRAM(step_##n);
EACH(DECLARE)

#define SLOT(n) [n] = PROGRAM_SLOT(step_##n),
PROGRAM_ARRAY(steps, 64, EACH(SLOT));

/* Byte n of the payload says where step n goes on, and byte 63 where the first one is; where the slot is empty, the chain
 * ends. */
#define STEP(n)                                                                                                      \
	PROGRAM(step_##n)                                                                                            \
	{                                                                                                            \
		u8 *at = START(ctx) + PAYLOAD;                                                                       \
		if (at + 64 > END(ctx))                                                                              \
			return SHORT_PACKET;                                                                         \
		TAIL_CALL(ctx, steps, at[n]);                                                                        \
		return 0x100 + (n);                                                                                  \
	}
EACH(STEP)

PROGRAM(tail_calls)
{
	u8 *at = START(ctx) + PAYLOAD;

	if (at + 64 > END(ctx))
		return SHORT_PACKET;
	TAIL_CALL(ctx, steps, at[63]);
	return 1;
}
