//! Clearing one's own view of a channel.

use super::{mark_within, member};
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Takes the history up to a seq, or so far if it is absent, from one member, and the conversation off the list.
    Clear = 5 "clear" { channel: channel, user: user, seq: maybe, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let seq = self.seq.unwrap_or(u64::MAX).min(txn.head(key.channel).last.seq);
        if seq <= row.cleared.seq && row.activated == 0 {
            return Ok(Outcome::Unchanged);
        }
        let cleared = if seq > row.cleared.seq { mark_within(txn, key.channel, seq)? } else { row.cleared };
        let version = txn.version() + 1;
        let patch = Patch::new()
            .set(field::cleared, cleared)
            .set(field::activated, 0u64)
            .set(field::withdrawn, version);
        txn.patch::<Membership>(key, patch)
    }
}

impl Batch {
    /// Takes all that was said so far from this user's view, and the conversation off the user's list. A later message
    /// brings the conversation back; what was cleared stays so. Others see no change.
    pub fn clear(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(Clear { channel: channel.as_ref(), user: user.as_ref(), seq: None })
    }

    /// Takes what was said up to `seq` from this user's view; beyond the end means all of it, as [`Batch::clear`] does. The
    /// conversation goes off the list unless there is something later to see. What was cleared before stays so.
    pub fn clear_to(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Clear { channel: channel.as_ref(), user: user.as_ref(), seq: Some(seq) })
    }
}
