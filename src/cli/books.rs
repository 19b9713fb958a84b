//! The books of a host, for people.
//!
//! Invariant: every received frame stands in them exactly once; where it does not, they say so.

use super::table::grouped;
use crate::control::view::PortView;

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
    let terms: Vec<String> = parts.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    let verdict = if sum == port.rx { "exact" } else { "NOT EXACT" };
    format!("rx {} = {} ({verdict})", grouped(port.rx), terms.join(" + "))
}

/// All that a host has to say of a port, a line each.
pub(super) fn lines(port: &PortView) -> [String; 3] {
    let drops = format!("dropped by the kernel before it came here: {}", grouped(port.socket_drops));
    [line(port), sent_line(port), drops]
}

/// What left: by whom, and what became of it.
fn sent_line(port: &PortView) -> String {
    let made = port.tx + port.redirect + port.replies + port.sent;
    format!(
        "tx {} of {}: source {} + tx {} + redirect {} + replies {}; errors {}, peer unreachable {}",
        grouped(port.tx_frames),
        grouped(made),
        grouped(port.sent),
        grouped(port.tx),
        grouped(port.redirect),
        grouped(port.replies),
        grouped(port.tx_errors),
        grouped(port.unreachable)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_that_do_not_balance_say_so() {
        let mut port = PortView {
            port: "wire".to_owned(),
            rx: 1005,
            pass: 1000,
            drop: 3,
            tx: 2,
            redirect: 0,
            aborted: 0,
            refused: 0,
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
        port.drop = 4;
        assert!(line(&port).ends_with("(NOT EXACT)"));
    }
}
