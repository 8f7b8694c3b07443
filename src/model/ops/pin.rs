//! Pinning a conversation.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Pins a conversation, or ends that.
    Pin = 8 "pin" { channel: channel, user: user, on: flag, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        if row.pinned == self.on {
            return Ok(Outcome::Unchanged);
        }
        txn.patch::<Membership>(key, Patch::new().set(field::pinned, self.on))
    }
}

impl Batch {
    /// Pins a conversation for this user, or ends that. It moves nothing in the list: each entry carries
    /// [`Membership::pinned`], by which a client can put pinned ones on top.
    pub fn pin(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, on: bool) -> &mut Self {
        self.push(Pin { channel: channel.as_ref(), user: user.as_ref(), on })
    }
}
