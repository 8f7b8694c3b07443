//! What somebody who left may still read: the part of a channel that was theirs to see when they left.
//!
//! It is no tombstone: no age and no number drops it. A membership stands before it, and each leaving settles it anew, so a
//! join needs no look at it.

use std::ops::RangeInclusive;

use super::head::Head;
use super::image::image;
use super::key::UserChannel;
use super::membership::Membership;

image! {
    /// What somebody who left may still read of a channel.
    pub struct KeptHistory: table 26 by UserChannel;
    marks {}
    fields {
        /// Nothing up to this seq.
        floor: u64 = 1,
        /// Nothing beyond this seq; 0 if nothing is kept.
        last: u64 = 2,
        /// The greatest seq that the user had hidden from themself, or 0.
        forgot: u64 = 3,
    }
    beside {}
    tombstone |_| false;
}

impl KeptHistory {
    /// What a membership leaves behind that ends in a channel with this head; `None` if there is nothing to see.
    pub(crate) fn of(row: &Membership, head: &Head) -> Option<KeptHistory> {
        let (floor, last) = (row.floor_in(head).seq, head.last.seq);
        (floor < last).then_some(KeptHistory { floor, last, forgot: row.forgot, ..KeptHistory::default() })
    }

    /// Whether anything is kept.
    pub(crate) fn holds(&self) -> bool {
        self.last > self.floor
    }

    /// The seqs that may be read.
    pub(crate) fn seqs(&self) -> RangeInclusive<u64> {
        self.floor.saturating_add(1)..=self.last
    }

    /// Whether the row can stand in a channel with this head.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        self.last.max(self.forgot) <= head.last.seq
    }
}
