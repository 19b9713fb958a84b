// Loops by open-coded iterators, and sections in which nothing is freed or nothing else runs.
#include "kfuncs.h"

struct bpf_iter_num {
	__u64 opaque;
};

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym;

STEP count_step(struct xdp_md *ctx)
{
	struct bpf_iter_num it;
	int *number;
	int start = (int)roll(40) - 20;
	int end = start + (int)roll(30) - 5;

	if (roll(8) == 0)
		end = 0x7fffffff - (int)roll(3);
	if (roll(8) == 0)
		start = -0x7fffffff - 1 + (int)roll(3);
	note(bpf_xdp_get_buff_len(ctx));
	note(bpf_iter_num_new(&it, start, end));
	while ((number = bpf_iter_num_next(&it)))
		answer_sum = answer_sum * 31 + *number;
	note(bpf_iter_num_next(&it) != 0);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	unsigned long flags;

	shake_frame(ctx);
	bpf_rcu_read_lock();
	note(roll(9));
	bpf_rcu_read_unlock();
	bpf_preempt_disable();
	bpf_local_irq_save(&flags);
	note(roll(9));
	bpf_local_irq_restore(&flags);
	bpf_preempt_enable();
	EIGHT_TIMES(count_step, ctx);
	return answer_sum;
}
