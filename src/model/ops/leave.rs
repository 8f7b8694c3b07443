//! Ending a membership.

use super::find_row;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Ends a membership.
    Leave = 3 "leave" { channel: channel, user: user, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        match find_row(txn, self.channel, self.user)? {
            Some((key, row)) if row.present() => {
                let mut patch = Patch::new().set(field::left_at, Some(txn.now())).set(field::activated, 0u64);
                // Tombstones are to be small.
                if !row.attributes.is_empty() {
                    patch = patch.set(field::attributes, Blob::default());
                }
                txn.patch::<Membership>(key, patch)
            }
            _ => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Ends a membership. Leaving as a non-member changes nothing.
    pub fn leave(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(Leave { channel: channel.as_ref(), user: user.as_ref() })
    }
}
