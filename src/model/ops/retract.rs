//! Taking back a message.

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
    /// Withholds a message's payload from now on.
    Retract = 32 "retract" { channel: channel, seq: number, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let key = message(txn, self.channel, self.seq)?;
        let before = txn.row::<Alteration>(key)?;
        if before.as_ref().is_some_and(Alteration::withheld) || erased_with_sender(txn, key)? {
            return Ok(Outcome::Unchanged);
        }
        let ordinal = txn.mark(key.channel, key.seq)?.ordinal;
        let counted = ordinal > txn.mark(key.channel, key.seq - 1)?.ordinal;
        let mut patch = Patch::new().set(field::retracted, true).set(field::counted, counted);
        if before.is_some_and(|row| row.edited) {
            patch = patch.set(field::payload, Blob::default());
        }
        txn.patch::<Alteration>(key, patch)
    }
}

impl Batch {
    /// Takes back a message: it keeps its seq and its place in histories and lists, where it is a stub without a payload
    /// from now on ([`MessageState::Retracted`](crate::MessageState::Retracted)), and it no longer counts as unread for those
    /// who had not read it. The order of lists and what is in them stays; members are told that the channel changed.
    /// Retracting again changes nothing, nor does retracting an erased message.
    ///
    /// Who may do that is for the caller to say. The payload is withheld from readers, but its bytes stay in the store's
    /// files ([`Batch::erase`] takes them out). Costs a row of a few bytes and two look-ups of messages.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "oops")))?;
    /// store.commit(Batch::new().retract("general", 1))?;
    /// assert_eq!(store.history("general").list()?[0].payload, "");
    /// assert_eq!(store.unread("bob")?.messages, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NoMessage`](crate::Error::NoMessage) if the channel has no message of this seq.
    pub fn retract(&mut self, channel: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Retract { channel: channel.as_ref(), seq })
    }
}
