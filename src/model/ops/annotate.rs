//! Keeping something with a message.

use bytes::Bytes;

use super::message;
use crate::error::{Error, Result};
use crate::model::annotation::{Annotation, MAX_ANNOTATION, MAX_KEY, field};
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::key::{ChannelSeq, MessageSlot};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Keeps a value with a message under a key; an empty one removes what is there.
    Annotate = 33 "annotate" { channel: channel, seq: number, key: bytes, value: bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        let key = self.key.len();
        if !(1..=MAX_KEY).contains(&key) {
            return Err(Error::invalid(format!("a key of {key} bytes; 1 to {MAX_KEY} are allowed")));
        }
        let (len, limit) = (self.value.len() as u64, MAX_ANNOTATION as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "an annotation's number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let ChannelSeq { channel, seq } = message(txn, self.channel, self.seq)?;
        let first = MessageSlot { channel, seq, slot: txn.hash(&[self.key]) };
        let (at, before) = Annotation::find(first, self.key, |at| txn.row(at))?;
        let mut patch = Patch::new();
        if before.is_none() {
            patch = patch.set(field::key, Bytes::copy_from_slice(self.key));
        }
        let value = before.map(|before| before.value).unwrap_or_default();
        match txn.keep(Some(&value), self.value)? {
            Some(value) => txn.patch::<Annotation>(at, patch.set(field::value, value)),
            None => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Keeps a value with a message under a key: 1 to 255 and up to [`MAX_ANNOTATION`] bytes that mean what the server says,
    /// such as a reaction of a user, the state of an event, or who retracted the message. It replaces what was there under
    /// that key, and an empty value removes it. Retracted messages can be annotated like any.
    ///
    /// Members are told that the channel changed ([`Conversation::versions`](crate::Conversation::versions));
    /// [`Store::annotations`](crate::Store::annotations) reads annotations, and [`Store::changes`](crate::Store::changes) tells
    /// which ones changed. No order, count or visibility does. Costs a row, whatever else is kept with the message; a value above
    /// 1,024 bytes is written once beside it, and takes a version of its own. A row of a few bytes stays after a removal.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "lunch?")))?;
    /// store.commit(Batch::new().annotate("general", 1, "bob", "yes").annotate("general", 1, "eve", "no"))?;
    /// store.commit(Batch::new().annotate("general", 1, "eve", ""))?;
    /// let kept = store.annotations("general").list()?;
    /// assert_eq!((kept.len(), kept[0].seq, &kept[0].key[..]), (1, 1, &b"bob"[..]));
    /// assert_eq!(kept[0].value, "yes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NoMessage`](crate::Error::NoMessage) if the channel has no message of this seq,
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a key of another length, and
    /// [`Error::TooLarge`](crate::Error::TooLarge) for a value that is longer.
    pub fn annotate(
        &mut self,
        channel: impl AsRef<[u8]>,
        seq: u64,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(Annotate { channel: channel.as_ref(), seq, key: key.as_ref(), value: value.as_ref() })
    }
}
