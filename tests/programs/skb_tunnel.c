// Tunnels that packets are to go into.
#include "dice.h"

STEP any_key(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = roll(8) ? roll(32) & (roll(2) ? 0x1e : 0x1f) : roll(64);
	__u64 answer;

	key.tunnel_id = roll(1 << 30);
	key.remote_ipv6[0] = roll(1 << 30);
	key.remote_ipv6[3] = roll(1 << 30);
	key.local_ipv6[0] = roll(1 << 30);
	key.local_ipv6[2] = roll(1 << 30);
	key.tunnel_tos = roll(256);
	key.tunnel_ttl = roll(256);
	key.tunnel_ext = roll(16) == 0;
	key.tunnel_label = roll(3) ? 0 : roll(1 << 22);
	switch (roll(7)) {
	case 0:
		answer = bpf_skb_set_tunnel_key(skb, &key, 28, flags);
		break;
	case 1:
		answer = bpf_skb_set_tunnel_key(skb, &key, 24, flags);
		break;
	case 2:
		answer = bpf_skb_set_tunnel_key(skb, &key, 22, flags);
		break;
	case 3:
		answer = bpf_skb_set_tunnel_key(skb, &key, 8, flags);
		break;
	case 4:
		answer = bpf_skb_set_tunnel_key(skb, &key, 40, flags);
		break;
	default:
		answer = bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
	}
	note(answer);
	return 0;
}

STEP any_answer(struct __sk_buff *skb)
{
	__u64 answer;
	__u64 key[6] = {};
	__u64 flags = roll(8) ? (roll(2) | (roll(3) == 0 ? 16 : 0)) : roll(64);

	switch (roll(7)) {
	case 0:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, 28, flags);
		break;
	case 1:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, 24, flags);
		break;
	case 2:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, 22, flags);
		break;
	case 3:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, 8, flags);
		break;
	case 4:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, 40, flags);
		break;
	default:
		answer = bpf_skb_get_tunnel_key(skb, (void *)key, sizeof(struct bpf_tunnel_key), flags);
	}
	note(answer);
	note(key[0]);
	note(key[1]);
	note(key[2]);
	note(key[3]);
	note(key[4]);
	note(key[5]);
	return 0;
}

STEP any_option(struct __sk_buff *skb)
{
	__u8 options[300] = {};
	__u32 len = (roll(1 << 20) & 63) + 1;

	options[0] = roll(256);
	options[3] = roll(256);
	if (roll(3))
		len = (len & 60) + 4;
	if (roll(2))
		note(bpf_skb_set_tunnel_opt(skb, options, roll(8) ? len : 256));
	note(bpf_skb_get_tunnel_opt(skb, options, (roll(1 << 20) & 63) + 1));
	note(*(__u32 *)options);
	return 0;
}

SEC("tc")
int tunnels(struct __sk_buff *skb)
{
	shake(skb);
	any_answer(skb);
	any_option(skb);
	any_key(skb);
	any_answer(skb);
	any_option(skb);
	any_option(skb);
	any_answer(skb);
	any_key(skb);
	any_answer(skb);
	any_option(skb);
	return answer_sum;
}
