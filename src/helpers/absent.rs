//! Why kernel functions that programs of the field ask for are not there.
//!
//! Invariant: a name that is listed here is in no list of what is there.

/// What a kernel function's name begins with, or holds, and why there is none of these.
static REASONS: &[(&str, &str)] = &[
    ("bpf_arena_", "there are no arenas"),
    ("bpf_cast_to_kern_ctx", "there are no structures of the kernel"),
    ("_ct_", "a host tracks no connections"),
    ("bpf_crypto_", "a host has no ciphers"),
    ("bpf_kfunc_c", "it is of a module that tests the kernel"),
    ("bpf_list_", "programs have no objects beside maps"),
    ("bpf_obj_", "programs have no objects beside maps"),
    ("bpf_percpu_obj_", "programs have no objects beside maps"),
    ("bpf_rbtree_", "programs have no objects beside maps"),
    ("bpf_rdonly_cast", "there are no structures of the kernel"),
    ("bpf_refcount_", "programs have no objects beside maps"),
    ("bpf_testmod_", "it is of a module that tests the kernel"),
    ("bpf_wq_", "there are no work queues"),
    ("bpf_xdp_flow_lookup", "a host has no flow tables"),
    ("_fou_encap", "a host has no tunnel devices"),
    ("_xfrm_", "a host has no IPsec"),
];

/// Why there is no kernel function of this name, where there is more to say than that.
#[must_use]
pub fn kfunc_reason(name: &str) -> Option<&'static str> {
    let fits = |part: &str| if part.starts_with("bpf_") { name.starts_with(part) } else { name.contains(part) };
    REASONS.iter().find(|(part, _)| fits(part)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helpers::KFUNCS;

    #[test]
    fn what_is_there_has_no_reason_not_to_be() {
        for kfunc in KFUNCS {
            assert_eq!(kfunc_reason(&format!("bpf_{}", kfunc.name)), None, "{}", kfunc.name);
        }
        assert_eq!(kfunc_reason("bpf_xdp_ct_lookup"), Some("a host tracks no connections"));
        assert_eq!(kfunc_reason("nobody_has"), None);
    }
}
