//! What the context says before a run, and after it: `ctx_in` and `ctx_out` of `BPF_PROG_TEST_RUN`.
//!
//! Source: `xdp_convert_md_to_buff`, `convert___skb_to_skb` and `bpf_prog_test_run_flow_dissector` in `net/bpf/test_run.c`.
//!
//! Invariant: a context that the kernel refuses is refused, with the field's name, but that `data_end` of `xdp_md` may be
//! zero, which means the length of the input.

use crate::limits::{FRAME_LEN_MIN, META_LEN_MAX};
use crate::run::{Context, Run};
use crate::trap::Fault;
use crate::verdict::ProgramKind;

/// Most that `wire_len` may say; the kernel's `GSO_LEGACY_MAX_SIZE`.
const WIRE_LEN_MAX: u32 = 65536;
/// Most that `gso_segs` may say; the kernel's `GSO_MAX_SEGS`.
const SEGMENTS_MAX: u32 = 65535;

/// A context cannot be given to a run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Bytes behind the structure are not zero.
    #[error("context: byte {at} lies behind {name} of {len} bytes; leave it out or make it zero")]
    TooLong {
        /// First byte that is not zero.
        at: usize,
        /// The structure.
        name: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A field that programs get from the frame is given.
    #[error("context: byte {at} of {name} is not zero; only {settable} may be set")]
    NotSettable {
        /// First byte that is not zero.
        at: usize,
        /// The structure.
        name: &'static str,
        /// The fields that may.
        settable: &'static str,
    },
    /// Programs of this kind have none.
    #[error("context: {kind} programs have none; leave it out")]
    None {
        /// Name of the kind.
        kind: &'static str,
    },
    /// A field has a value that no frame has.
    #[error("context: {field} is {value}; {must}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u32,
        /// What it must be.
        must: &'static str,
    },
}

/// A structure of the kernel's and what of it may be set.
struct Layout {
    name: &'static str,
    len: usize,
    settable: &'static str,
    /// Offset and length of each settable field.
    fields: &'static [(u32, u32)],
}

const XDP_MD: Layout = Layout {
    name: "xdp_md",
    len: Context::XDP_LEN as usize,
    settable: "data, data_end, ingress_ifindex and rx_queue_index",
    fields: &[(0, 8), (12, 8)],
};

const SK_BUFF: Layout = Layout {
    name: "__sk_buff",
    len: Context::SK_BUFF_LEN as usize,
    settable: "mark, priority, ingress_ifindex, ifindex, cb, tstamp, wire_len, gso_segs, gso_size and hwtstamp",
    fields: &[
        (Context::SKB_MARK, 4),
        (Context::SKB_PRIORITY, 12),
        (Context::SKB_CB, 20),
        (Context::SKB_TSTAMP, 16),
        (Context::SKB_GSO_SIZE, 4),
        (Context::SKB_HWTSTAMP, 8),
    ],
};

const FLOW_KEYS: Layout = Layout {
    name: "bpf_flow_keys",
    len: Context::FLOW_KEYS_LEN as usize,
    settable: "flags",
    fields: &[(Context::KEYS_FLAGS, 4)],
};

/// A context that was given for runs, checked as far as no frame is needed.
#[derive(Clone, Debug)]
pub(super) struct TestContext {
    kind: ProgramKind,
    /// The structure whole.
    bytes: Vec<u8>,
}

impl TestContext {
    /// Checks `bytes`, which may be shorter than the structure: the rest is zero.
    pub(super) fn new(kind: ProgramKind, bytes: &[u8]) -> Result<Self, ContextError> {
        let layout = match kind {
            ProgramKind::Xdp => &XDP_MD,
            ProgramKind::Tc | ProgramKind::SocketFilter => &SK_BUFF,
            ProgramKind::FlowDissector => &FLOW_KEYS,
            ProgramKind::Raw => return Err(ContextError::None { kind: kind.name() }),
        };
        let &Layout { name, len, settable, fields } = layout;
        let first_set = |from: usize| (from..bytes.len()).find(|at| bytes[*at] != 0);
        if let Some(at) = first_set(len) {
            return Err(ContextError::TooLong { at, name, len });
        }
        let is_settable =
            |at: usize| fields.iter().any(|(start, len)| (*start as usize..(start + len) as usize).contains(&at));
        if let Some(at) = (0..bytes.len().min(len)).find(|at| bytes[*at] != 0 && !is_settable(*at)) {
            return Err(ContextError::NotSettable { at, name, settable });
        }
        let mut whole = bytes.to_vec();
        whole.resize(len, 0);
        let context = Self { kind, bytes: whole };
        match kind {
            ProgramKind::Xdp => context.check_xdp()?,
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                context.at_most("gso_segs", Context::SKB_GSO_SEGS, SEGMENTS_MAX, "65535 is the most")?;
                context.at_most("wire_len", Context::SKB_WIRE_LEN, WIRE_LEN_MAX, "65536 is the most")?;
            }
            ProgramKind::FlowDissector | ProgramKind::Raw => {}
        }
        Ok(context)
    }

    fn word(&self, offset: u32) -> u32 {
        let at = offset as usize;
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn put(&mut self, offset: u32, value: u32) {
        self.bytes[offset as usize..offset as usize + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn at_most(&self, field: &'static str, offset: u32, max: u32, must: &'static str) -> Result<(), ContextError> {
        let value = self.word(offset);
        if value > max { Err(ContextError::Value { field, value, must }) } else { Ok(()) }
    }

    fn check_xdp(&self) -> Result<(), ContextError> {
        let meta_len = self.meta_len();
        if meta_len > META_LEN_MAX || !meta_len.is_multiple_of(4) {
            let must = "the length of the metadata is a multiple of 4 up to 252";
            return Err(ContextError::Value { field: "data", value: meta_len, must });
        }
        let [ifindex, queue] = [12, 16].map(|offset| self.word(offset));
        if ifindex == 0 && queue != 0 {
            let must = "set ingress_ifindex too";
            return Err(ContextError::Value { field: "rx_queue_index", value: queue, must });
        }
        Ok(())
    }

    /// Bytes of metadata at the start of each input: `xdp_md.data`. For XDP alone.
    pub(super) fn meta_len(&self) -> u32 {
        if self.kind == ProgramKind::Xdp { self.word(Context::XDP_DATA) } else { 0 }
    }

    /// Bytes of the input, metadata included, that lie in the linear part at most: `xdp_md.data_end`, which says nothing
    /// where it is zero. For XDP alone.
    pub(super) fn linear_len_max(&self) -> u32 {
        let given = if self.kind == ProgramKind::Xdp { self.word(Context::XDP_DATA + 4) } else { 0 };
        if given == 0 { u32::MAX } else { given }
    }

    /// Checks it against an input of `len` bytes, metadata included, of which `fragments_len` may lie in fragments.
    pub(super) fn check(&self, len: u32, fragments_len: u32) -> Result<(), ContextError> {
        match self.kind {
            ProgramKind::Xdp => {
                let value = self.word(Context::XDP_DATA + 4);
                if value != 0 && (value > len || value + fragments_len < len) {
                    let must = match (value > len, fragments_len) {
                        (false, 1..) => "no more than 17 pages of the input may lie behind it",
                        (_, _) => "it must be the length of the input, metadata included",
                    };
                    return Err(ContextError::Value { field: "data_end", value, must });
                }
                if value != 0 && value < self.meta_len() {
                    let must = "it must not be less than data";
                    return Err(ContextError::Value { field: "data_end", value, must });
                }
                let value = self.meta_len();
                if value + FRAME_LEN_MIN > len {
                    let must = "at least 14 bytes of frame must be left";
                    return Err(ContextError::Value { field: "data", value, must });
                }
                Ok(())
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                let value = self.word(Context::SKB_WIRE_LEN);
                let packet_len = if self.kind == ProgramKind::Tc { len } else { len - FRAME_LEN_MIN };
                if value != 0 && value < packet_len {
                    let must = "it must be 0 or at least the packet's length";
                    return Err(ContextError::Value { field: "wire_len", value, must });
                }
                Ok(())
            }
            ProgramKind::FlowDissector | ProgramKind::Raw => Ok(()),
        }
    }

    /// The structure as the kernel takes it with an input of `len` bytes: there `data_end` is always said.
    pub(super) fn for_kernel(&self, len: usize) -> Vec<u8> {
        let mut whole = self.clone();
        if self.kind == ProgramKind::Xdp && self.word(Context::XDP_DATA + 4) == 0 {
            whole.put(Context::XDP_DATA + 4, u32::try_from(len).unwrap_or(u32::MAX));
        }
        whole.bytes
    }

    /// Makes the run say what it says, before [`Context::write`].
    pub(super) fn prepare(&self, run: &mut Run<'_>) {
        let given = |offset| Some(self.word(offset)).filter(|ifindex| *ifindex != 0);
        match self.kind {
            ProgramKind::Xdp => {
                run.ifindex = given(12).unwrap_or(run.ifindex);
                run.queue = self.word(16);
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                run.ifindex = given(Context::SKB_IFINDEX).unwrap_or(run.ifindex);
            }
            ProgramKind::FlowDissector | ProgramKind::Raw => {}
        }
    }

    /// Writes the fields that programs read, behind [`Context::write`].
    pub(super) fn apply(&self, run: &mut Run<'_>) -> Result<(), Fault> {
        let ctx = run.head.ctx;
        match self.kind {
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                // As short as in the kernel's `struct skb_shared_info`.
                run.skb.segment_len = self.word(Context::SKB_GSO_SIZE) & 0xffff;
                let wire_len = Some(self.word(Context::SKB_WIRE_LEN)).filter(|len| *len != 0);
                let wire_len = wire_len.unwrap_or_else(|| run.window.frame_len());
                let cage = &run.world.cage;
                for (offset, len) in SK_BUFF.fields {
                    let field = &self.bytes[*offset as usize..(offset + len) as usize];
                    cage.write((ctx + offset).into(), field)?;
                }
                cage.write((ctx + Context::SKB_IFINDEX).into(), &run.ifindex.to_le_bytes())?;
                cage.write((ctx + Context::SKB_WIRE_LEN).into(), &wire_len.to_le_bytes())?;
                Context::write_skb(run)
            }
            ProgramKind::FlowDissector => {
                let at = ctx + Context::FLOW_KEYS + Context::KEYS_FLAGS;
                run.world.cage.write(at.into(), &self.word(Context::KEYS_FLAGS).to_le_bytes())
            }
            ProgramKind::Xdp | ProgramKind::Raw => Ok(()),
        }
    }

    /// The context after a run, as bpf(2) gives it out.
    pub(super) fn after(&self, run: &Run<'_>) -> Result<Vec<u8>, Fault> {
        let mut left = self.clone();
        match self.kind {
            ProgramKind::Xdp => {
                let window = run.window;
                left.put(Context::XDP_DATA, window.data.saturating_sub(window.meta));
                left.put(Context::XDP_DATA + 4, window.data_end - window.meta.min(window.data));
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                // Not the segments' length: what is given comes back.
                for (offset, len) in SK_BUFF.fields.iter().filter(|(offset, _)| *offset != Context::SKB_GSO_SIZE) {
                    let field = &mut left.bytes[*offset as usize..(offset + len) as usize];
                    run.world.cage.read((run.head.ctx + offset).into(), field)?;
                }
            }
            ProgramKind::FlowDissector | ProgramKind::Raw => {}
        }
        Ok(left.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(len: usize, fields: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (offset, value) in fields {
            bytes[*offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn refused(kind: ProgramKind, bytes: &[u8]) -> String {
        TestContext::new(kind, bytes).expect_err("a context that no run can have").to_string()
    }

    #[test]
    fn a_context_says_only_what_the_kernel_takes() {
        assert_eq!(
            refused(ProgramKind::Tc, &words(192, &[(0, 60)])),
            "context: byte 0 of __sk_buff is not zero; only mark, priority, ingress_ifindex, ifindex, cb, tstamp, \
             wire_len, gso_segs, gso_size and hwtstamp may be set"
        );
        assert_eq!(
            refused(ProgramKind::FlowDissector, &[14]),
            "context: byte 0 of bpf_flow_keys is not zero; only flags may be set"
        );
        assert_eq!(
            refused(ProgramKind::Xdp, &words(28, &[(24, 1)])),
            "context: byte 24 lies behind xdp_md of 24 bytes; leave it out or make it zero"
        );
        assert_eq!(refused(ProgramKind::Raw, &[]), "context: raw programs have none; leave it out");
        assert_eq!(
            refused(ProgramKind::Xdp, &words(24, &[(0, 6), (4, 60)])),
            "context: data is 6; the length of the metadata is a multiple of 4 up to 252"
        );
        assert_eq!(
            refused(ProgramKind::Xdp, &words(24, &[(16, 2)])),
            "context: rx_queue_index is 2; set ingress_ifindex too"
        );
        assert_eq!(
            refused(ProgramKind::Tc, &words(192, &[(164, 65536)])),
            "context: gso_segs is 65536; 65535 is the most"
        );
        let every = [8, 32, 36, 40, 48, 52, 56, 60, 64, 152, 156, 160, 164, 176, 184, 188].map(|offset| (offset, 1));
        assert!(TestContext::new(ProgramKind::SocketFilter, &words(192, &every)).is_ok());
        assert!(TestContext::new(ProgramKind::Tc, &words(400, &[])).is_ok());
    }

    #[test]
    fn no_end_of_the_data_means_that_of_the_input() {
        let context = TestContext::new(ProgramKind::Xdp, &words(24, &[(12, 3)])).expect("an interface");
        assert_eq!(context.check(60, 0), Ok(()));
    }

    #[test]
    fn a_context_fits_its_frame() {
        let error = |kind, bytes: &[u8], len| {
            let context = TestContext::new(kind, bytes).unwrap_or_else(|error| panic!("{error}"));
            context.check(len, 0).expect_err("another frame").to_string()
        };
        assert_eq!(
            error(ProgramKind::Xdp, &words(24, &[(0, 4), (4, 60)]), 61),
            "context: data_end is 60; it must be the length of the input, metadata included"
        );
        assert_eq!(
            error(ProgramKind::Xdp, &words(24, &[(0, 8), (4, 20)]), 20),
            "context: data is 8; at least 14 bytes of frame must be left"
        );
        assert_eq!(
            error(ProgramKind::Tc, &words(192, &[(160, 59)]), 60),
            "context: wire_len is 59; it must be 0 or at least the packet's length"
        );
    }
}
