// Brings checksums up to date.
#include "dice.h"

static __always_inline __u64 flags_of(void)
{
	__u64 flags = roll(3) * 2;

	if (roll(6) == 0)
		flags = roll(16);
	if (roll(2))
		flags |= BPF_F_PSEUDO_HDR;
	if (roll(2))
		flags |= BPF_F_MARK_MANGLED_0;
	if (roll(4) == 0)
		flags |= BPF_F_MARK_ENFORCE;
	if (roll(4) == 0)
		flags |= 1 << 7;
	if (roll(12) == 0)
		flags |= 1 << 8;
	return flags;
}

static __always_inline __u32 place(__u32 len)
{
	__u32 offset = 2 * roll(len / 2 + 1);

	if (roll(8) == 0)
		offset += 1;
	if (roll(12) == 0)
		offset = 0xfffe + roll(6);
	return offset;
}

static __always_inline __u64 number(void)
{
	switch (roll(4)) {
	case 0:
		return 0;
	case 1:
		return 0xffff;
	case 2:
		return roll(0x10000);
	default:
		return ((__u64)roll(0x7fffffff) << 31) | roll(0x7fffffff);
	}
}

STEP any_checksum(struct __sk_buff *skb)
{
	__u64 from = number(), to = number();
	__u32 offset = place(skb->len);
	__u16 zero = 0;

	note(bpf_l3_csum_replace(skb, offset, from, to, roll(4) ? roll(3) * 2 : roll(18)));
	offset = place(skb->len);
	if (roll(3) == 0)
		bpf_skb_store_bytes(skb, offset, &zero, sizeof(zero), 0);
	from = number();
	to = number();
	note(bpf_l4_csum_replace(skb, offset, from, to, flags_of()));
	note(bpf_csum_level(skb, roll(5)));
	note(bpf_csum_update(skb, to));
	return 0;
}

SEC("tc")
int checksums(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_checksum, skb);
	return answer_sum;
}

// As a NAT does it: address and port, in header and pseudo header.
SEC("tc")
int translate(struct __sk_buff *skb)
{
	__u32 old = 0, new = bpf_htonl(0x0a090003);
	__u16 port = 0, port_new = bpf_htons(4242);
	__u8 protocol = 0;

	if (skb->protocol != bpf_htons(0x0800))
		return TC_ACT_OK;
	bpf_skb_load_bytes(skb, 23, &protocol, 1);
	bpf_skb_load_bytes(skb, 30, &old, 4);
	bpf_skb_load_bytes(skb, 36, &port, 2);
	if (protocol == 17) {
		note(bpf_l4_csum_replace(skb, 40, old, new, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | 4));
		note(bpf_l4_csum_replace(skb, 40, port, port_new, BPF_F_MARK_MANGLED_0 | 2));
	} else if (protocol == 6) {
		note(bpf_l4_csum_replace(skb, 50, 0, bpf_csum_diff(&old, 4, &new, 4, 0), BPF_F_PSEUDO_HDR));
		note(bpf_l4_csum_replace(skb, 50, port, port_new, 2));
	}
	note(bpf_l3_csum_replace(skb, 24, old, new, 4));
	note(bpf_skb_store_bytes(skb, 30, &new, 4, BPF_F_RECOMPUTE_CSUM));
	note(bpf_skb_store_bytes(skb, 36, &port_new, 2, BPF_F_INVALIDATE_HASH));
	return TC_ACT_OK;
}
