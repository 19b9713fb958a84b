// What packets say of themselves: for whom they are, congestion, time, control group, route.
#include "dice.h"

STEP any_mark(struct __sk_buff *skb)
{
	note(bpf_skb_change_type(skb, roll(6)));
	note(skb->pkt_type);
	if (roll(3) == 0)
		note(bpf_skb_ecn_set_ce(skb));
	note(bpf_skb_set_tstamp(skb, roll(4) ? roll(1 << 30) : 0, roll(5)));
	note(skb->tstamp);
	note(skb->tstamp_type);
	note(bpf_get_cgroup_classid(skb));
	note(bpf_get_route_realm(skb));
	return 0;
}

SEC("tc")
int marks(struct __sk_buff *skb)
{
	__u8 tos = 0;

	shake(skb);
	tos = roll(256);
	if (skb->protocol == bpf_htons(0x0800))
		bpf_skb_store_bytes(skb, 15, &tos, 1, 0);
	EIGHT_TIMES(any_mark, skb);
	return answer_sum;
}

// A bare frame has no socket here, and one made for the occasion in the kernel's test runs.
SEC("socket")
int sockets(struct __sk_buff *skb)
{
	bpf_get_socket_cookie(skb);
	bpf_get_socket_uid(skb);
	return skb->len;
}

SEC("tc")
int groups(struct __sk_buff *skb)
{
	bpf_get_socket_cookie(skb);
	bpf_get_socket_uid(skb);
	bpf_skb_cgroup_id(skb);
	bpf_skb_ancestor_cgroup_id(skb, 1);
	note(bpf_skb_cgroup_classid(skb));
	return skb->len;
}
