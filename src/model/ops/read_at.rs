//! Setting the cursor outright.

use super::{mark_within, member_with_own, set_cursor};
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Sets the cursor to a seq, forward or back.
    ReadAt = 13 "read_at" { channel: channel, user: user, seq: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member_with_own(txn, self.channel, self.user)?;
        let to = mark_within(txn, key.channel, self.seq.max(row.floor().seq))?;
        set_cursor(txn, key, &row, to)
    }
}

impl Batch {
    /// Sets the cursor of this user to `seq`, forward or back: exactly what lies up to it counts as read. Beyond the end means
    /// the end, below what the user may see means the first message that may be seen.
    ///
    /// Messages of the user's own above it count as unread like any, until the user sends the next one or marks as read with
    /// [`Batch::read`]. It ends the unread flag.
    pub fn read_at(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(ReadAt { channel: channel.as_ref(), user: user.as_ref(), seq })
    }
}
