//! Putting a conversation on the list.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Shows a conversation in the list even while it is empty.
    Activate = 7 "activate" { channel: channel, user: user, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, _) = member(txn, self.channel, self.user)?;
        let version = txn.version() + 1;
        txn.patch::<Membership>(key, Patch::new().set(field::activated, version))
    }
}

impl Batch {
    /// Shows a conversation in the user's list even while it is empty or hidden, until it is cleared, hidden or left.
    pub fn activate(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(Activate { channel: channel.as_ref(), user: user.as_ref() })
    }
}
