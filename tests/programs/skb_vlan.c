// VLAN tags beside the packet and in it.
#include "dice.h"

static __always_inline void look(struct __sk_buff *skb)
{
	__u64 bytes = 0;

	note(skb->vlan_present);
	note(skb->vlan_tci);
	note(skb->vlan_proto);
	note(skb->protocol);
	note(skb->len);
	note(bpf_skb_load_bytes_relative(skb, 0, &bytes, sizeof(bytes), BPF_HDR_START_NET));
	note(bytes);
	note(bpf_skb_load_bytes_relative(skb, 12, &bytes, sizeof(bytes), BPF_HDR_START_MAC));
	note(bytes);
}

STEP any_tag(struct __sk_buff *skb)
{
	__u16 protocol = roll(4) ? bpf_htons(roll(2) ? 0x8100 : 0x88a8) : roll(0x10000);

	if (roll(2))
		note(bpf_skb_vlan_push(skb, protocol, roll(0x10000)));
	else
		note(bpf_skb_vlan_pop(skb));
	look(skb);
	if (roll(6) == 0)
		note(bpf_skb_ecn_set_ce(skb));
	if (roll(12) == 0)
		note(bpf_skb_change_head(skb, roll(8), 0));
	if (roll(12) == 0)
		note(bpf_skb_change_tail(skb, skb->len - roll(20), 0));
	if (roll(16) == 0)
		note(bpf_skb_adjust_room(skb, roll(8), BPF_ADJ_ROOM_MAC, 0));
	return 0;
}

SEC("tc")
int tags(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_tag, skb);
	return answer_sum;
}

SEC("tc")
int all_off(struct __sk_buff *skb)
{
	note(bpf_skb_vlan_pop(skb));
	look(skb);
	note(bpf_skb_vlan_pop(skb));
	look(skb);
	note(bpf_skb_vlan_pop(skb));
	look(skb);
	note(bpf_skb_vlan_pop(skb));
	look(skb);
	return answer_sum;
}
