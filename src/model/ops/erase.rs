//! Erasing a message: nobody reads it any more, and its bytes go.

use super::{erased_with_sender, message};
use crate::error::Result;
use crate::model::alteration::{Alteration, field};
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::image::Patch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Withholds a message's payload from now on, and gives its bytes up.
    Erase = 57 "erase" { channel: channel, seq: number, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let key = message(txn, self.channel, self.seq)?;
        let before = txn.row::<Alteration>(key)?;
        if before.as_ref().is_some_and(|row| row.erased) || erased_with_sender(txn, key)? {
            return Ok(Outcome::Unchanged);
        }
        let mut patch = Patch::new().set(field::erased, true);
        if before.is_some_and(|row| row.edited) {
            patch = patch.set(field::payload, Blob::default());
        }
        txn.patch::<Alteration>(key, patch)
    }
}

impl Batch {
    /// Erases what a message says, and what it said before its edits. It is withheld from readers as soon as this is committed,
    /// and the bytes go from the store's files within [`Options::erase_within`](crate::Options::erase_within), or at once by
    /// [`Store::erase_now`](crate::Store::erase_now). The message stays as a stub
    /// ([`MessageState::Erased`](crate::MessageState::Erased)), with its seq, sender, timestamp and ids: no order of lists and
    /// nothing in them changes, and it goes on counting as unread for those who have not read it, unless it was retracted before.
    /// What is kept with it under keys ([`Batch::annotate`]) stays. Members are told that the channel changed. Erasing again
    /// changes nothing.
    ///
    /// Costs a row of a few bytes and one look-up of a message.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, MessageState};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "my address")))?;
    /// store.commit(Batch::new().erase("general", 1))?;
    /// let message = &store.history("general").list()?[0];
    /// assert!(matches!(message.state, MessageState::Erased { .. }) && message.payload.is_empty());
    /// store.erase_now()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NoMessage`](crate::Error::NoMessage) if the channel has no message of this seq.
    pub fn erase(&mut self, channel: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Erase { channel: channel.as_ref(), seq })
    }
}
