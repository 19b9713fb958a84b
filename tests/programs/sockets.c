// Looks sockets up by tuples that a map holds, and leaves in another what was found.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct question {
	struct bpf_sock_tuple tuple;
	__u32 len;
	__u32 is_udp;
	__s32 netns;
	__u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, struct question);
} questions SEC(".maps");

struct answer {
	__u32 found, bound_dev_if, family, type, protocol, mark, priority;
	__u32 src_ip4, src_ip6[4], src_port, dst_port, dst_ip4, dst_ip6[4], state;
	__u32 full, tcp, listener, assigned;
	long cookie, again, wrong, no_syn;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

__u32 asked = 0;

static __always_inline void describe(struct bpf_sock *sk, struct answer *answer)
{
	answer->found = 1;
	answer->bound_dev_if = sk->bound_dev_if;
	answer->family = sk->family;
	answer->type = sk->type;
	answer->protocol = sk->protocol;
	answer->mark = sk->mark;
	answer->priority = sk->priority;
	answer->src_ip4 = sk->src_ip4;
	answer->src_port = sk->src_port;
	answer->dst_port = sk->dst_port;
	answer->dst_ip4 = sk->dst_ip4;
	for (int i = 0; i < 4; i++) {
		answer->src_ip6[i] = sk->src_ip6[i];
		answer->dst_ip6[i] = sk->dst_ip6[i];
	}
	answer->state = sk->state;
}

static __always_inline void ask_cookies(struct bpf_sock *sk, struct answer *answer)
{
	struct {
		struct tcphdr tcp;
		__u8 options[4];
	} segment = {.tcp = {.doff = 6, .syn = 1, .seq = bpf_htonl(77)}, .options = {2, 4, 5, 130}};
	struct iphdr ip = {.version = 4, .ihl = 5, .protocol = IPPROTO_TCP, .saddr = 5, .daddr = 6};
	__s64 cookie = bpf_tcp_gen_syncookie(sk, &ip, sizeof(ip), &segment.tcp, sizeof(segment));

	answer->cookie = cookie < 0 ? cookie : cookie >> 32;
	if (cookie < 0)
		return;
	segment.tcp.ack = 1;
	answer->no_syn = bpf_tcp_gen_syncookie(sk, &ip, sizeof(ip), &segment.tcp, sizeof(segment));
	segment.tcp.syn = 0;
	segment.tcp.seq = bpf_htonl(78);
	segment.tcp.ack_seq = bpf_htonl((__u32)cookie + 1);
	answer->again = bpf_tcp_check_syncookie(sk, &ip, sizeof(ip), &segment.tcp, sizeof(segment));
	ip.saddr = 7;
	answer->wrong = bpf_tcp_check_syncookie(sk, &ip, sizeof(ip), &segment.tcp, sizeof(segment));
}

SEC("xdp")
int sockets_xdp(struct xdp_md *ctx)
{
	__u32 index = asked++ & 31;
	struct question *question = bpf_map_lookup_elem(&questions, &index);
	struct answer answer = {};
	struct bpf_sock *sk;

	if (!question)
		return XDP_DROP;
	if (question->is_udp)
		sk = bpf_sk_lookup_udp(ctx, &question->tuple, question->len == 12 ? 12 : question->len == 36 ? 36 : 13,
				       question->netns, question->flags);
	else
		sk = bpf_sk_lookup_tcp(ctx, &question->tuple, question->len == 12 ? 12 : question->len == 36 ? 36 : 13,
				       question->netns, question->flags);
	if (sk) {
		describe(sk, &answer);
		ask_cookies(sk, &answer);
		bpf_sk_release(sk);
	}
	bpf_map_update_elem(&answers, &index, &answer, BPF_ANY);
	return XDP_PASS;
}

SEC("tc")
int sockets_tc(struct __sk_buff *ctx)
{
	__u32 index = asked++ & 31;
	struct question *question = bpf_map_lookup_elem(&questions, &index);
	struct answer answer = {};
	struct bpf_sock *sk, *full, *listener;
	struct bpf_tcp_sock *tcp;

	if (!question)
		return 2;
	if (question->is_udp)
		sk = bpf_sk_lookup_udp(ctx, &question->tuple, question->len == 12 ? 12 : 36, question->netns, question->flags);
	else
		sk = bpf_skc_lookup_tcp(ctx, &question->tuple, question->len == 12 ? 12 : 36, question->netns, question->flags);
	if (sk) {
		answer.found = 1;
		full = bpf_sk_fullsock(sk);
		if (full) {
			describe(full, &answer);
			answer.full = 1;
		}
		tcp = bpf_tcp_sock(sk);
		if (tcp)
			answer.tcp = 1 + (tcp->snd_cwnd > 0);
		listener = bpf_get_listener_sock(sk);
		answer.listener = !!listener;
		answer.assigned = bpf_sk_assign(ctx, sk, 1);
		bpf_sk_release(sk);
	}
	bpf_map_update_elem(&answers, &index, &answer, BPF_ANY);
	return 0;
}

char _license[] SEC("license") = "GPL";
