// Arguments that the packet chooses, so that random frames reach many branches; and the answers of helpers, kept for
// comparison in the order in which they were given.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ANSWERS 4096

__s64 answers[ANSWERS];
__u32 answer_count;
// All answers so far in one number: what a program returns.
__u32 answer_sum;
__u64 state;

// A step is a global function, which the verifier looks at once and not for each turn of a loop.
#define STEP __attribute__((noinline)) int

// Keeps an answer, and hands it on.
static __always_inline __s64 note(__s64 answer)
{
	answers[answer_count & (ANSWERS - 1)] = answer;
	answer_count++;
	answer_sum = answer_sum * 31 + (__u32)answer;
	return answer;
}

// Begins with the link addresses, which are random in every frame.
static __always_inline void shake(struct __sk_buff *skb)
{
	__u64 seed = 0;

	bpf_skb_load_bytes_relative(skb, 0, &seed, sizeof(seed), BPF_HDR_START_MAC);
	state = seed;
}

// The same for frames without an sk_buff.
static __always_inline void shake_frame(struct xdp_md *ctx)
{
	__u64 seed = 0;

	bpf_xdp_load_bytes(ctx, 0, &seed, sizeof(seed));
	state = seed;
}

// A number below `below`.
static __always_inline __u32 roll(__u32 below)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (__u32)(state >> 33) % below;
}

// Does a step eight times.
#define EIGHT_TIMES(step, skb)                                                                                        \
	do {                                                                                                          \
		int turn;                                                                                             \
		_Pragma("clang loop unroll(disable)") for (turn = 0; turn < 8; turn++) step(skb);                     \
	} while (0)

char _license[] SEC("license") = "Dual MIT/GPL";
