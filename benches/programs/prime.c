/* Whether a number of the packet is prime, by trial division. */
#include "packet.h"

PROGRAM(prime)
{
	u32 *at = (void *)(START(ctx) + PAYLOAD);
	u32 number;

	if ((u8 *)(at + 1) > END(ctx))
		return SHORT_PACKET;
	number = *at;
	if (number < 2 || !(number & 1))
		return number == 2;
	for (u32 divisor = 3; divisor < 256; divisor += 2) {
		if (divisor * divisor > number)
			break;
		if (number % divisor == 0)
			return divisor;
	}
	return 1;
}
