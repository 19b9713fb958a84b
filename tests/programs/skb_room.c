// Room in packets: behind headers, before and behind the packet, for another protocol.
#include "dice.h"

#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

// What a program sees of where the headers are now.
static __always_inline void look(struct __sk_buff *skb)
{
	__u64 bytes = 0;

	note(skb->len);
	note(skb->protocol);
	note(bpf_skb_load_bytes_relative(skb, roll(40), &bytes, sizeof(bytes), BPF_HDR_START_NET));
	note(bytes);
	note(bpf_skb_load_bytes_relative(skb, 0, &bytes, sizeof(bytes), BPF_HDR_START_MAC));
	note(bytes);
	note(skb->data_end - skb->data);
}

static __always_inline __u64 flags_of(void)
{
	__u64 flags = 0;

	if (roll(3))
		flags |= roll(8) ? (roll(2) ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) : 6;
	if (roll(2))
		flags |= roll(6) ? (roll(2) ? BPF_F_ADJ_ROOM_ENCAP_L4_GRE : BPF_F_ADJ_ROOM_ENCAP_L4_UDP) : 24;
	if (roll(4) == 0)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L2((__u64)roll(40));
	if (roll(4) == 0)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	if (roll(4) == 0)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	if (roll(4) == 0)
		flags |= BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	if (roll(12) == 0)
		flags |= DECAP_L3_IPV4;
	if (roll(24) == 0)
		flags |= 1ULL << (9 + roll(40));
	return flags;
}

static __always_inline __u32 mode_of(void)
{
	return roll(10) ? roll(2) : 2;
}

STEP any_growth(struct __sk_buff *skb)
{
	__s32 len = roll(12) ? roll(90) : 4094 + roll(4);

	// Frames of ours have less room than the kernel makes.
	if (len == 4094 || len == 4095)
		len = 0;
	bpf_csum_level(skb, BPF_CSUM_LEVEL_INC);
	note(bpf_skb_adjust_room(skb, len, mode_of(), flags_of()));
	note(bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY));
	look(skb);
	return 0;
}

STEP any_shrinking(struct __sk_buff *skb)
{
	__s32 len = roll(12) ? roll(60) : skb->len - 14 - roll(45);
	__u64 flags = roll(6) ? 0 : flags_of();

	if (roll(3) == 0)
		flags |= roll(4) ? (roll(2) ? DECAP_L3_IPV4 : DECAP_L3_IPV6) : DECAP_L3_IPV4 | DECAP_L3_IPV6;
	note(bpf_skb_adjust_room(skb, -len, mode_of(), flags));
	look(skb);
	return 0;
}

static __always_inline __u32 tail_of(struct __sk_buff *skb)
{
	switch (roll(8)) {
	case 0:
		return roll(60);
	case 1:
		return 16065 + roll(1 << 20) * 8;
	default:
		return skb->len + roll(60) - 40;
	}
}

// Leaves what headers need: room behind the packet's end holds whatever lay in the kernel's memory.
STEP any_tail(struct __sk_buff *skb)
{
	__u32 len = tail_of(skb);

	if (len < 100)
		len += 100;
	note(bpf_skb_change_tail(skb, len, roll(12) == 0));
	look(skb);
	return 0;
}

STEP last_tail(struct __sk_buff *skb)
{
	note(bpf_skb_change_tail(skb, tail_of(skb), roll(12) == 0));
	look(skb);
	return 0;
}

STEP any_head(struct __sk_buff *skb)
{
	__u32 len = roll(15);

	// A packet that stands for segments may become longer than any other; not here.
	if (skb->gso_size == 0) {
		if (roll(8) == 0)
			len = 0xfffffff0 + roll(16);
		if (roll(12) == 0)
			len = 16065;
	}
	note(bpf_skb_change_head(skb, len, roll(12) == 0));
	look(skb);
	return 0;
}

STEP any_protocol(struct __sk_buff *skb)
{
	__u16 protocol = roll(2) ? bpf_htons(0x0800) : bpf_htons(0x86dd);

	if (roll(8) == 0)
		protocol = roll(0x10000);
	note(bpf_skb_change_proto(skb, protocol, roll(12) == 0));
	look(skb);
	return 0;
}

// Within the headroom of the kernel's test runs: where it makes more, it takes a transport header for set that is not, and
// bpf_skb_change_tail goes by it.
STEP small_growth(struct __sk_buff *skb)
{
	note(bpf_skb_adjust_room(skb, roll(32), mode_of(), flags_of()));
	look(skb);
	return 0;
}

SEC("tc")
int grow(struct __sk_buff *skb)
{
	shake(skb);
	any_tail(skb);
	any_growth(skb);
	any_growth(skb);
	any_growth(skb);
	return answer_sum;
}

SEC("tc")
int shrink(struct __sk_buff *skb)
{
	shake(skb);
	EIGHT_TIMES(any_shrinking, skb);
	return answer_sum;
}

SEC("tc")
int ends(struct __sk_buff *skb)
{
	shake(skb);
	any_tail(skb);
	any_head(skb);
	any_tail(skb);
	any_head(skb);
	small_growth(skb);
	any_shrinking(skb);
	last_tail(skb);
	return answer_sum;
}

SEC("tc")
int protocols(struct __sk_buff *skb)
{
	shake(skb);
	any_protocol(skb);
	any_protocol(skb);
	any_growth(skb);
	any_protocol(skb);
	any_head(skb);
	any_protocol(skb);
	any_shrinking(skb);
	any_protocol(skb);
	return answer_sum;
}
