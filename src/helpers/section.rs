//! Sections in which the kernel frees nothing, or does nothing else. `kernel/bpf/helpers.c`.
//!
//! There is nothing to do: a run frees nothing that it can reach, and nothing else happens on its worker until it ends.

use super::check::kfunc_place;
use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::run::Run;
use crate::trap::TrapKind;

/// Bytes of what `bpf_local_irq_save` keeps.
const FLAGS_LEN: u32 = 8;

fn nothing(_: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// `void bpf_rcu_read_lock(void)`: nothing is freed until it is unlocked.
pub(super) static RCU_READ_LOCK: Helper = Helper {
    id: KFUNC + 14,
    name: "rcu_read_lock",
    args: &[],
    ret: Ret::Void,
    cost: 1,
    frame: Frame::Keeps,
    kinds: &[],
    body: nothing,
};

/// `void bpf_rcu_read_unlock(void)`: ends that.
pub(super) static RCU_READ_UNLOCK: Helper = Helper {
    id: KFUNC + 15,
    name: "rcu_read_unlock",
    args: &[],
    ret: Ret::Void,
    cost: 1,
    frame: Frame::Keeps,
    kinds: &[],
    body: nothing,
};

/// `void bpf_preempt_disable(void)`: no other thread runs here until they are let.
pub(super) static PREEMPT_DISABLE: Helper = Helper {
    id: KFUNC + 16,
    name: "preempt_disable",
    args: &[],
    ret: Ret::Void,
    cost: 1,
    frame: Frame::Keeps,
    kinds: &[],
    body: nothing,
};

/// `void bpf_preempt_enable(void)`: ends that.
pub(super) static PREEMPT_ENABLE: Helper = Helper {
    id: KFUNC + 17,
    name: "preempt_enable",
    args: &[],
    ret: Ret::Void,
    cost: 1,
    frame: Frame::Keeps,
    kinds: &[],
    body: nothing,
};

fn local_irq_save(run: &mut Run<'_>, [flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let kept = run.world.cage.write(flags, &[0; FLAGS_LEN as usize]);
    kept.map_err(|fault| kfunc_place(LOCAL_IRQ_SAVE.name, 1).fault(fault))?;
    Ok(0)
}

/// `void bpf_local_irq_save(flags)`: no interrupt comes until they are restored. What is kept is for nobody to read.
pub(super) static LOCAL_IRQ_SAVE: Helper = Helper {
    id: KFUNC + 18,
    name: "local_irq_save",
    args: &[Arg::BytesOut(FLAGS_LEN)],
    ret: Ret::Void,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: local_irq_save,
};

/// `void bpf_local_irq_restore(flags)`: ends that.
pub(super) static LOCAL_IRQ_RESTORE: Helper = Helper {
    id: KFUNC + 19,
    name: "local_irq_restore",
    args: &[Arg::Bytes(FLAGS_LEN)],
    ret: Ret::Void,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: nothing,
};
