//! What several runs came to.
//!
//! Invariant: the sum over verdicts is the number of frames.

use serde::Serialize;

use super::FrameReport;
use crate::verdict::Verdict;

/// What the runs of a program on several frames came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunTally {
    /// Frames.
    pub frames: u64,
    /// Frames that were handed on.
    pub pass: u64,
    /// Frames that were dropped.
    pub drop: u64,
    /// Frames that were sent back.
    pub tx: u64,
    /// Frames that were redirected.
    pub redirect: u64,
    /// Frames whose run failed.
    pub aborted: u64,
    /// Of the aborted: the run stopped early.
    pub traps: u64,
    /// What verify mode noticed, all in all.
    pub findings: u64,
    /// Frames beside those above that no program takes, because they are too short or too long.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl RunTally {
    /// Counts a frame.
    pub fn count(&mut self, report: &FrameReport) {
        self.frames += 1;
        self.traps += u64::from(report.trap.is_some());
        self.findings += report.findings.len() as u64;
        *match report.verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Drop => &mut self.drop,
            Verdict::Tx => &mut self.tx,
            Verdict::Redirect => &mut self.redirect,
            Verdict::Aborted => &mut self.aborted,
        } += 1;
    }

    /// Frames by verdict.
    pub fn verdicts(&self) -> impl Iterator<Item = (Verdict, u64)> + use<> {
        let Self { pass, drop, tx, redirect, aborted, .. } = *self;
        [
            (Verdict::Pass, pass),
            (Verdict::Drop, drop),
            (Verdict::Tx, tx),
            (Verdict::Redirect, redirect),
            (Verdict::Aborted, aborted),
        ]
        .into_iter()
    }
}
