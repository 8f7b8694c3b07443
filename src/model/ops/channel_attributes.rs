//! What a server keeps with a channel.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::channel::MAX_CHANNEL_ATTRIBUTES;
use crate::model::channel::{Channel, field};
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Replaces the attributes of a channel. Makes the channel if need be.
    ChannelAttributes = 16 "channel_attributes" { channel: channel, attributes: bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        let (len, limit) = (self.attributes.len() as u64, MAX_CHANNEL_ATTRIBUTES as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "the attributes' number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let channel = txn.make_channel(self.channel)?;
        let row = txn.row::<Channel>(channel)?;
        match txn.keep(row.as_ref().map(|row| &row.attributes), self.attributes)? {
            Some(attributes) => txn.patch::<Channel>(channel, Patch::new().set(field::attributes, attributes)),
            None => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Replaces the attributes of a channel: up to [`MAX_CHANNEL_ATTRIBUTES`] bytes that mean what the server says. Makes the
    /// channel if need be. Members are told that the channel changed; an entry of a list does not carry the attributes, so that a client asks for them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// store.commit(Batch::new().channel_attributes("anna", "title=Anna"))?;
    /// assert_eq!(store.channel("anna")?.expect("it is known now").attributes, "title=Anna");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::TooLarge`] if they are longer.
    pub fn channel_attributes(
        &mut self,
        channel: impl AsRef<[u8]>,
        attributes: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(ChannelAttributes { channel: channel.as_ref(), attributes: attributes.as_ref() })
    }
}
