//! How far a channel was delivered to a member, beside how far it was read. A row of its own, so that nobody's list changes by
//! it: only who asks for receipts hears of it.
//!
//! Like a user's own mark it counts for a membership only if it is newer than the join, so that it ends with the membership
//! by itself.

use super::head::Head;
use super::image::image;
use super::key::UserChannel;
use super::membership::Membership;

image! {
    /// How far a channel was delivered to a user.
    pub struct Delivered: table 25 by UserChannel;
    marks {}
    fields {
        /// Up to this seq.
        seq: u64 = 1,
    }
    beside {}
    tombstone |_| false;
}

impl Delivered {
    /// The row, if it is of this membership.
    pub(crate) fn counts(self, row: &Membership) -> Option<Delivered> {
        (self.version > row.joined_at()).then_some(self)
    }

    /// Whether the row can stand in a channel with this head.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        self.seq <= head.last.seq
    }
}
