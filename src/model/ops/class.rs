//! Giving a channel a class.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::channel::{Channel, field};
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Gives a channel a class. Makes the channel if need be.
    Class = 15 "class" { channel: channel, class: number, }

    fn check(&self, _: &Limits) -> Result<()> {
        class_of(self.class).map(drop)
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let channel = txn.make_channel(self.channel)?;
        let class = class_of(self.class)?;
        match txn.row::<Channel>(channel)? {
            Some(row) if row.class == class => Ok(Outcome::Unchanged),
            _ => txn.patch::<Channel>(channel, Patch::new().set(field::class, class)),
        }
    }
}

/// The class of a number in an operation.
fn class_of(number: u64) -> Result<u8> {
    u8::try_from(number).map_err(|_| Error::invalid(format!("a class of {number}; 0 to 255 are allowed")))
}

impl Batch {
    /// Gives a channel a class, which means what the server says, such as a group, a thread or a system channel. Makes the
    /// channel if need be; channels begin with class 0. Lists, sums and listings can be narrowed to classes
    /// ([`Conversations::class`](crate::Conversations::class)). Costs one row, and tells members that the channel changed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// const THREAD: u8 = 2;
    /// store.commit(Batch::new().class("general/42", THREAD).join("general/42", "bob").activate("general/42", "bob"))?;
    /// let threads = store.conversations("bob").class(THREAD).list()?;
    /// assert_eq!((threads.entries.len(), threads.entries[0].class), (1, THREAD));
    /// assert!(store.conversations("bob").class(0).list()?.entries.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn class(&mut self, channel: impl AsRef<[u8]>, class: u8) -> &mut Self {
        self.push(Class { channel: channel.as_ref(), class: class.into() })
    }
}
