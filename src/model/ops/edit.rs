//! Changing what a message says.

use super::{erased_with_sender, message};
use crate::error::{Error, Result};
use crate::model::alteration::{Alteration, field};
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Gives a message another payload.
    Edit = 35 "edit" { channel: channel, seq: number, payload: bytes, }

    fn check(&self, limits: &Limits) -> Result<()> {
        let (len, limit) = (self.payload.len() as u64, u64::from(limits.payload));
        match len > limit {
            true => Err(Error::TooLarge { what: "a payload's number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let key = message(txn, self.channel, self.seq)?;
        let before = txn.row::<Alteration>(key)?;
        if before.as_ref().is_some_and(Alteration::withheld) || erased_with_sender(txn, key)? {
            return Err(Error::Retracted { seq: self.seq, op: txn.index(), version: txn.version() });
        }
        let edited = before.as_ref().filter(|row| row.edited).map(|row| &row.payload);
        let Some(payload) = txn.keep(edited, self.payload)? else { return Ok(Outcome::Unchanged) };
        let mut patch = Patch::new().set(field::edited, true).set(field::payload, payload);
        if before.is_none_or(|row| !row.edited) {
            let origin = txn.origin(key.channel, key.seq)?;
            patch = patch.set(field::sender, u64::from(origin.sender.0)).set(field::sent, origin.version);
            if origin.expires.is_some() {
                patch = patch.set(field::expires, origin.expires);
            }
        }
        txn.patch::<Alteration>(key, patch)
    }
}

impl Batch {
    /// Gives a message another payload, which readers get from now on in place of the one it was sent with
    /// ([`MessageState::Edited`](crate::MessageState::Edited)); views from before still get the old one. All else of the
    /// message stays, and it is unread for nobody again. Members are told that the channel changed; no order does. Editing to
    /// the payload that an earlier edit gave changes nothing.
    ///
    /// Who may do that is for the caller to say, and whether earlier payloads are kept: the store's files hold them, but it
    /// gives out the newest only. Costs a look-up of the message and a row, which holds up to 1,024 bytes of payload; a longer
    /// one is written once beside it, and takes a version of its own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, MessageState};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "helo")))?;
    /// store.commit(Batch::new().edit("general", 1, "hello"))?;
    /// let message = &store.history("general").list()?[0];
    /// assert_eq!(message.payload, "hello");
    /// assert!(matches!(message.state, MessageState::Edited { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NoMessage`](crate::Error::NoMessage) if the channel has no message of this seq,
    /// [`Error::Retracted`](crate::Error::Retracted) if it was retracted, and [`Error::TooLarge`](crate::Error::TooLarge) for
    /// a payload above the store's limit.
    pub fn edit(&mut self, channel: impl AsRef<[u8]>, seq: u64, payload: impl AsRef<[u8]>) -> &mut Self {
        self.push(Edit { channel: channel.as_ref(), seq, payload: payload.as_ref() })
    }
}
