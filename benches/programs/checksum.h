/* The Internet checksum (RFC 1071), word by word, as long as the packet says. */
#pragma once

ALWAYS_INLINE u32 checksum(const u8 *at, const u8 *end, u32 len, u32 len_max)
{
	u64 sum = 0;

	for (u32 done = 0; done < len_max; done += 2) {
		if (done >= len || at + 2 > end)
			break;
		sum += *(const u16 *)at;
		at += 2;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)~sum;
}
