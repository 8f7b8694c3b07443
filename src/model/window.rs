//! For how long the client id of a message makes its send unique.

use crate::env::fault;
/// So long: while either holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow {
    /// For so many versions.
    pub versions: u64,
    /// For so many milliseconds.
    pub ms: i64,
}

/// How far the clock may step back after a merge so that nothing that was dropped would count again, in milliseconds: a day,
/// or the window if that is shorter.
const STEP_BACK: i64 = 24 * 3600 * 1000;

impl SendWindow {
    /// Whether a send of a version and a time counts for a batch that begins with version `first`, at `now`.
    pub fn holds(self, (version, sent_at): (u64, Option<i64>), first: u64, now: i64) -> bool {
        let age = now.saturating_sub(sent_at.unwrap_or(i64::MIN));
        first.saturating_sub(version) <= self.versions || age < self.ms
    }

    /// Whether it counts for no batch after version `last`, which is durable, from `now` on.
    pub fn is_over(self, send: (u64, Option<i64>), last: u64, now: i64) -> bool {
        let back = if fault(103) { 0 } else { STEP_BACK.min(self.ms) };
        !self.holds(send, last.saturating_add(1), now.saturating_sub(back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_merge_may_drop_counts_for_nobody_later() {
        let window = SendWindow { versions: 10, ms: 1000 };
        let send = (100, Some(5000));
        assert!(window.holds(send, 110, i64::MAX), "for its versions");
        assert!(window.holds(send, u64::MAX, 5999), "for its time");
        assert!(window.holds(send, u64::MAX, i64::MIN), "before its time");
        assert!(!window.holds(send, 111, 6000));
        assert!(!window.is_over(send, 109, i64::MAX));
        assert!(!window.is_over(send, 110, 6000), "the clock may step back");
        assert!(window.is_over(send, 110, 7000));
    }
}
