//! Marking as read.

use super::{mark_within, member};
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Marks a channel as read up to a seq.
    Read = 4 "read" { channel: channel, user: user, seq: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        if self.seq.min(txn.head(key.channel).last.seq) <= row.read.seq {
            return Ok(Outcome::Unchanged);
        }
        let read = mark_within(txn, key.channel, self.seq)?;
        txn.patch::<Membership>(key, Patch::new().set(field::read, read))
    }
}

impl Batch {
    /// Marks a channel as read up to `seq`; beyond the end means to the end, so `u64::MAX` marks all of it. Never goes back.
    pub fn read(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Read { channel: channel.as_ref(), user: user.as_ref(), seq })
    }
}
