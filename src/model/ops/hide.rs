//! Taking a conversation off the list.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Takes a conversation off the list until the next message.
    Hide = 6 "hide" { channel: channel, user: user, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let head = txn.head(key.channel);
        if !row.visible(&head) {
            return Ok(Outcome::Unchanged);
        }
        let version = txn.version() + 1;
        let patch = Patch::new()
            .set(field::hidden, head.last.seq)
            .set(field::activated, 0u64)
            .set(field::withdrawn, version);
        txn.patch::<Membership>(key, patch)
    }
}

impl Batch {
    /// Takes a conversation off the user's list until the next message. History, marks and the number of unread messages
    /// stay as they are. Hiding what is not in the list changes nothing.
    pub fn hide(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(Hide { channel: channel.as_ref(), user: user.as_ref() })
    }
}
