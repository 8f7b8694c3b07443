//! Clearing one's own view of a channel.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Takes the history so far from one member, and the conversation off the list.
    Clear = 5 "clear" { channel: channel, user: user, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let end = txn.head(key.channel).last;
        if end.seq <= row.cleared.seq && row.activated == 0 {
            return Ok(Outcome::Unchanged);
        }
        let version = txn.version() + 1;
        let patch = Patch::new()
            .set(field::cleared, row.cleared.max(end))
            .set(field::activated, 0u64)
            .set(field::withdrawn, version);
        txn.patch::<Membership>(key, patch)
    }
}

impl Batch {
    /// Takes all that was said so far from this user's view, and the conversation off the user's list. A later message
    /// brings the conversation back; what was cleared stays so. Others see no change.
    pub fn clear(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(Clear { channel: channel.as_ref(), user: user.as_ref() })
    }
}
