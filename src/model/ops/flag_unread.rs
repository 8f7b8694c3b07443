//! The unread flag.

use super::member_with_own;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Flags a conversation as unread, or ends that.
    FlagUnread = 12 "flag_unread" { channel: channel, user: user, on: flag, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member_with_own(txn, self.channel, self.user)?;
        if (row.flagged > 0) == self.on {
            return Ok(Outcome::Unchanged);
        }
        let flagged = if self.on { txn.version() + 1 } else { 0 };
        txn.patch::<Membership>(key, Patch::new().set(field::flagged, flagged))
    }
}

impl Batch {
    /// Flags a conversation as unread for this user, or ends that. The flag stands apart from the marks: counts stay as they
    /// are, and a list of the unread shows the conversation even if all of it is read. It ends with [`Batch::read`],
    /// [`Batch::read_at`] and [`Batch::set_unread`], with a message of the user's own, and with the membership.
    pub fn flag_unread(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, on: bool) -> &mut Self {
        self.push(FlagUnread { channel: channel.as_ref(), user: user.as_ref(), on })
    }
}
