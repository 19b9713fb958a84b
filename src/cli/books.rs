//! The books of a host, for people.
//!
//! Invariant: every received frame stands in them exactly once; where it does not, they say so.

use super::table::grouped;
use crate::control::view::{HookCountsView, PortView};

/// `rx 5 = pass 1 + drop 2 + tx 2 + redirect 0 + aborted 0 + refused 0`, and whether that is so.
pub(super) fn line(port: &PortView) -> String {
    let parts = [
        ("pass", port.pass),
        ("drop", port.drop),
        ("tx", port.tx),
        ("redirect", port.redirect),
        ("aborted", port.aborted),
        ("refused", port.refused),
    ];
    let sum: u64 = parts.iter().map(|(_, count)| count).sum();
    let verdict = if sum == port.rx + port.reentered { "exact" } else { "NOT EXACT" };
    let reentered = some(" + from other ports ", port.reentered);
    format!("rx {}{reentered} = {} ({verdict})", grouped(port.rx), terms(&parts))
}

fn terms(parts: &[(&str, u64)]) -> String {
    let terms: Vec<String> = parts.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    terms.join(" + ")
}

/// A count with its name, unless it is none.
fn some(name: &str, count: u64) -> String {
    if count == 0 { String::new() } else { format!("{name}{}", grouped(count)) }
}

/// All that a host has to say of a port, a line each.
pub(super) fn lines(port: &PortView) -> Vec<String> {
    let mut lines = vec![line(port), sent_line(port)];
    lines.push(format!("dropped by the kernel before it came here: {}", grouped(port.socket_drops)));
    if port.copies + port.copies_lost > 0 {
        let (copies, lost) = (grouped(port.copies), grouped(port.copies_lost));
        lines.push(format!("copies sent beside its frames {copies}, lost {lost}"));
    }
    lines.extend(port.hooks.iter().filter(|hook| !hook.programs.is_empty()).map(hook_line));
    lines
}

/// What became of frames at a hook.
fn hook_line(hook: &HookCountsView) -> String {
    let programs: Vec<&str> = hook.programs.iter().map(|program| program.program.as_str()).collect();
    let parts = [
        ("pass", hook.pass),
        ("drop", hook.drop),
        ("tx", hook.tx),
        ("redirect", hook.redirect),
        ("aborted", hook.aborted),
    ];
    format!("{} ({}): {}", hook.hook, programs.join(", "), terms(&parts))
}

/// What left: by whom, and what became of it.
fn sent_line(port: &PortView) -> String {
    let made = port.tx + port.redirected + port.forwarded + port.replies + port.sent;
    format!(
        "tx {} of {}: source {} + tx {} + redirect {} + replies {}{}; errors {}{}, peer unreachable {}",
        grouped(port.tx_frames),
        grouped(made),
        grouped(port.sent),
        grouped(port.tx),
        grouped(port.redirected),
        grouped(port.replies),
        some(" + forwarded ", port.forwarded),
        grouped(port.tx_errors),
        some(", ended on tc egress ", port.egress_ended),
        grouped(port.unreachable)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::view::HookProgramView;

    #[test]
    fn books_that_do_not_balance_say_so() {
        let mut port = PortView {
            port: "wire".to_owned(),
            rx: 1005,
            reentered: 0,
            pass: 1000,
            drop: 3,
            tx: 2,
            redirect: 0,
            aborted: 0,
            refused: 0,
            hooks: Vec::new(),
            redirected: 0,
            forwarded: 0,
            copies: 0,
            copies_lost: 0,
            egress_ended: 0,
            replies: 4,
            sent: 5,
            tx_frames: 11,
            tx_errors: 0,
            unreachable: 1,
            socket_drops: 0,
        };
        let exact = "rx 1,005 = pass 1,000 + drop 3 + tx 2 + redirect 0 + aborted 0 + refused 0 (exact)";
        assert_eq!(line(&port), exact);
        assert_eq!(
            sent_line(&port),
            "tx 11 of 11: source 5 + tx 2 + redirect 0 + replies 4; errors 0, peer unreachable 1"
        );
        assert_eq!(lines(&port)[2], "dropped by the kernel before it came here: 0");
        assert_eq!(lines(&port).len(), 3);
        let (program, actions) = ("balance".to_owned(), Some("pass".to_owned()));
        let programs = vec![HookProgramView { program, id: 7, priority: 50, actions }];
        let hook = "xdp".to_owned();
        port.hooks = vec![HookCountsView { hook, programs, pass: 1, drop: 3, tx: 2, redirect: 0, aborted: 0 }];
        (port.forwarded, port.egress_ended, port.copies) = (5, 6, 7);
        assert_eq!(
            lines(&port)[1..],
            [
                "tx 11 of 16: source 5 + tx 2 + redirect 0 + replies 4 + forwarded 5; errors 0, ended on tc egress 6, peer unreachable 1",
                "dropped by the kernel before it came here: 0",
                "copies sent beside its frames 7, lost 0",
                "xdp (balance): pass 1 + drop 3 + tx 2 + redirect 0 + aborted 0",
            ]
        );
        port.reentered = 4;
        assert!(line(&port).starts_with("rx 1,005 + from other ports 4 = pass 1,000"));
        assert!(line(&port).ends_with("(NOT EXACT)"));
        port.reentered = 0;
        port.drop = 4;
        assert!(line(&port).ends_with("(NOT EXACT)"));
    }
}
