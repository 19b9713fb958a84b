// The flow's hash. What the kernel computes is keyed by a random number, so only whether there is one can be compared.
#include "dice.h"

STEP any_hash(struct __sk_buff *skb)
{
	__u32 byte = 0;

	switch (roll(5)) {
	case 0:
		note(bpf_set_hash(skb, roll(1 << 30)));
		note(skb->hash);
		note(bpf_get_hash_recalc(skb));
		break;
	case 1:
		bpf_set_hash_invalid(skb);
		note(skb->hash);
		break;
	case 2:
		note(bpf_get_hash_recalc(skb) != 0);
		note(skb->hash != 0);
		note(bpf_get_hash_recalc(skb) == skb->hash);
		break;
	case 3:
		note(bpf_skb_store_bytes(skb, roll(12), &byte, 1, BPF_F_INVALIDATE_HASH));
		note(skb->hash);
		break;
	default:
		note(bpf_skb_store_bytes(skb, roll(12), &byte, 1, 0));
		note(skb->hash != 0);
	}
	return 0;
}

SEC("tc")
int hashes(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_hash, skb);
	return answer_sum;
}
