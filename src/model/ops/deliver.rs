//! Noting what was delivered.

use super::member;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::delivered::{Delivered, field};
use crate::model::image::Patch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Notes that a channel was delivered up to a seq.
    Deliver = 19 "deliver" { channel: channel, user: user, seq: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let known = txn.row::<Delivered>(key)?.and_then(|known| known.counts(&row));
        let seq = self.seq.min(txn.head(key.channel).last.seq);
        match known.map_or(0, |known| known.seq) < seq {
            true => txn.patch::<Delivered>(key, Patch::new().set(field::seq, seq)),
            false => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Notes that a channel's messages were delivered to this user up to `seq`; beyond the end means to the end. Never goes
    /// back. It is told in receipts ([`ReadMark::delivered`](crate::ReadMark::delivered)) and nowhere else: it changes no list,
    /// no unread count, and not the membership, with which it ends.
    ///
    /// Costs a row of about 12 bytes, and look-ups of two rows.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// store.commit(Batch::new().deliver("general", "bob", 1))?;
    /// let receipt = &store.members("general").marks()?[0];
    /// assert_eq!((receipt.delivered, receipt.mark.seq), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NotMember`](crate::Error::NotMember) for anybody but a member.
    pub fn deliver(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Deliver { channel: channel.as_ref(), user: user.as_ref(), seq })
    }
}
