//! Muting a conversation.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Mutes a conversation, or ends that.
    Mute = 9 "mute" { channel: channel, user: user, on: flag, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        if row.muted == self.on {
            return Ok(Outcome::Unchanged);
        }
        txn.patch::<Membership>(key, Patch::new().set(field::muted, self.on))
    }
}

impl Batch {
    /// Mutes a conversation for this user, or ends that. The store only keeps the flag, [`Membership::muted`], for the
    /// server that decides about notifications: list, order and unread counts stay as they are.
    pub fn mute(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, on: bool) -> &mut Self {
        self.push(Mute { channel: channel.as_ref(), user: user.as_ref(), on })
    }
}
