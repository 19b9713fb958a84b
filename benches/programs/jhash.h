/* Bob Jenkins' lookup3 for 32 bits, as the kernel seeds it: the hash of flow tables. */
#pragma once

#define JHASH_MIX(a, b, c)                                                                                           \
	do {                                                                                                         \
		a -= c, a ^= ROTATE_LEFT_32(c, 4), c += b;                                                           \
		b -= a, b ^= ROTATE_LEFT_32(a, 6), a += c;                                                           \
		c -= b, c ^= ROTATE_LEFT_32(b, 8), b += a;                                                           \
		a -= c, a ^= ROTATE_LEFT_32(c, 16), c += b;                                                          \
		b -= a, b ^= ROTATE_LEFT_32(a, 19), a += c;                                                          \
		c -= b, c ^= ROTATE_LEFT_32(b, 4), b += a;                                                           \
	} while (0)

#define JHASH_FINAL(a, b, c)                                                                                         \
	do {                                                                                                         \
		c ^= b, c -= ROTATE_LEFT_32(b, 14);                                                                  \
		a ^= c, a -= ROTATE_LEFT_32(c, 11);                                                                  \
		b ^= a, b -= ROTATE_LEFT_32(a, 25);                                                                  \
		c ^= b, c -= ROTATE_LEFT_32(b, 16);                                                                  \
		a ^= c, a -= ROTATE_LEFT_32(c, 4);                                                                   \
		b ^= a, b -= ROTATE_LEFT_32(a, 14);                                                                  \
		c ^= b, c -= ROTATE_LEFT_32(b, 24);                                                                  \
	} while (0)

#define JHASH_INITIAL 0xdeadbeef

/* Keys are whole words. */
ALWAYS_INLINE u32 jhash(const void *key, u32 len, u32 seed)
{
	const u32 *words = key;
	u32 count = len / 4;
	u32 a = JHASH_INITIAL + len + seed, b = a, c = a;

	for (; count > 3; count -= 3, words += 3) {
		a += words[0], b += words[1], c += words[2];
		JHASH_MIX(a, b, c);
	}
	if (count > 2)
		c += words[2];
	if (count > 1)
		b += words[1];
	if (count > 0) {
		a += words[0];
		JHASH_FINAL(a, b, c);
	}
	return c;
}
