// Reads and writes packets by offset: tc and socket filter.
#include "dice.h"

// An offset that is mostly in the packet, sometimes at its end, seldom absurd.
static __always_inline __u32 place(__u32 len)
{
	switch (roll(8)) {
	case 0:
		return len - roll(9);
	case 1:
		return roll(2) ? 0x10000 + roll(2) : 0x7fffffff + roll(3);
	default:
		return roll(len + 4);
	}
}

// 1 to 16, and the verifier sees it.
static __always_inline __u32 length(void)
{
	return (roll(1 << 20) & 15) + 1;
}

STEP any_bytes(struct __sk_buff *skb)
{
	__u8 buffer[24] = {};
	__u32 len = length();

	note(bpf_skb_load_bytes(skb, place(skb->len), buffer, len));
	note(*(__u64 *)buffer);
	buffer[0] ^= 0x5a;
	note(bpf_skb_store_bytes(skb, place(skb->len), buffer, len, roll(5)));
	note(bpf_skb_load_bytes_relative(skb, place(skb->len), buffer, len, roll(3)));
	note(*(__u64 *)(buffer + 8));
	note(bpf_skb_pull_data(skb, roll(2) ? place(skb->len) : 0));
	return 0;
}

SEC("tc")
int bytes(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_bytes, skb);
	return answer_sum;
}

STEP any_bytes_read(struct __sk_buff *skb)
{
	__u8 buffer[16] = {};
	__u32 len = length();

	note(bpf_skb_load_bytes(skb, place(skb->len), buffer, len));
	note(*(__u64 *)buffer);
	note(bpf_skb_load_bytes_relative(skb, place(skb->len), buffer, len, roll(3)));
	note(*(__u64 *)buffer);
	return 0;
}

SEC("socket")
int filter(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_bytes_read, skb);
	return answer_sum;
}
