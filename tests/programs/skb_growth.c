// Packets that grow as far as packets can.
#include "dice.h"

STEP growth_step(struct __sk_buff *skb)
{
	__u8 byte = roll(256);

	switch (roll(3)) {
	case 0:
		note(bpf_skb_change_tail(skb, skb->len + roll(9000), 0));
		break;
	case 1:
		note(bpf_skb_change_head(skb, roll(3000), 0));
		break;
	default:
		note(bpf_skb_adjust_room(skb, roll(4000), BPF_ADJ_ROOM_MAC, 0));
	}
	note(skb->len);
	note(bpf_skb_store_bytes(skb, roll(skb->len + 1), &byte, 1, 0));
	note(bpf_skb_load_bytes(skb, roll(skb->len + 1), &byte, 1));
	note(byte);
	return 0;
}

SEC("tc")
int growth(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(growth_step, skb);
	return answer_sum;
}
