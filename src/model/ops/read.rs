//! Marking as read.

use super::{mark_within, member, member_with_own};
use crate::env::fault;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::key::UserChannel;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Marks a channel as read up to a seq.
    Read = 4 "read" { channel: channel, user: user, seq: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, mut row) = member(txn, self.channel, self.user)?;
        // Nearly no row needs a look at the own mark.
        if (row.flagged > 0 || row.set_at > 0) && !fault(105) {
            (_, row) = member_with_own(txn, self.channel, self.user)?;
        }
        read_to(txn, key, &row, self.seq)
    }
}

/// Marks a channel as read up to a seq, given the row as it counts.
pub(super) fn read_to(
    txn: &mut impl Transaction,
    key: UserChannel,
    row: &Membership,
    seq: u64,
) -> Result<Outcome> {
    let forward = seq.min(txn.head(key.channel).last.seq) > row.read.seq;
    if !forward && row.flagged == 0 && row.set_at == 0 {
        return Ok(Outcome::Unchanged);
    }
    let mut patch = Patch::new();
    if forward {
        patch = patch.set(field::read, mark_within(txn, key.channel, seq)?);
    }
    if row.flagged > 0 {
        patch = patch.set(field::flagged, 0u64);
    }
    if row.set_at > 0 {
        patch = patch.set(field::set_at, 0u64);
    }
    txn.patch::<Membership>(key, patch)
}

impl Batch {
    /// Marks a channel as read up to `seq`; beyond the end means to the end, so `u64::MAX` marks all of it. Never goes back.
    /// Whatever the seq, it ends the unread flag ([`Batch::flag_unread`]), and the user's own last message counts as read again, should that have
    /// been ended ([`Batch::read_at`]).
    pub fn read(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Read { channel: channel.as_ref(), user: user.as_ref(), seq })
    }
}
