// Targets that tc programs name, and copies that they send.
#include "dice.h"

#define LOOPBACK 1

STEP any_target(struct __sk_buff *skb)
{
	struct bpf_redir_neigh neighbour = { .nh_family = 2, .ipv4_nh = 0x0100007f };

	note(skb->len);
	switch (roll(4)) {
	case 0:
		return note(bpf_redirect(roll(3), roll(8) ? roll(2) : roll(8)));
	case 1:
		return note(bpf_redirect_peer(roll(3), roll(8) == 0));
	case 2:
		return note(bpf_redirect_neigh(roll(3), &neighbour, roll(2) ? sizeof(neighbour) : 8, roll(8) == 0));
	default:
		return note(bpf_redirect_neigh(roll(3), 0, 0, roll(8) == 0));
	}
}

STEP any_copy(struct __sk_buff *skb)
{
	__u8 byte = roll(256);

	note(bpf_clone_redirect(skb, roll(4) ? LOOPBACK : 0x7fff0000, roll(4) ? BPF_F_INGRESS : roll(64)));
	return note(bpf_skb_store_bytes(skb, roll(6), &byte, 1, 0));
}

SEC("tc")
int targets(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_target, skb);
	return answer_sum;
}

SEC("tc")
int copies(struct __sk_buff *skb)
{
	shake(skb);
	any_copy(skb);
	any_copy(skb);
	any_copy(skb);
	return answer_sum;
}
