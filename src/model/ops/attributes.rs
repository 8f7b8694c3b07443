//! What a server keeps with a membership.

use super::member;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{MAX_ATTRIBUTES, Membership, field};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Replaces the attributes of a membership.
    Attributes = 11 "attributes" { channel: channel, user: user, attributes: bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        let (len, limit) = (self.attributes.len() as u64, MAX_ATTRIBUTES as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "the attributes' number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        match txn.keep(Some(&row.attributes), self.attributes)? {
            Some(attributes) => {
                txn.patch::<Membership>(key, Patch::new().set(field::attributes, attributes))
            }
            None => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Replaces the attributes of a membership: up to [`MAX_ATTRIBUTES`] bytes that mean what the server says, such as a
    /// nickname, or a draft that all of the user's devices see. They begin empty, and end with the membership.
    ///
    /// Up to 1,024 bytes are a part of the row, which each merge that meets it moves, and come with each entry of a list.
    /// Longer ones are written once beside it, and take a version of their own; lists load them only if asked
    /// ([`Conversations::with_attributes`](crate::Conversations::with_attributes)).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// store.commit(Batch::new().join("general", "bob").attributes("general", "bob", "nickname=bo"))?;
    /// let row = store.membership("general", "bob")?.expect("bob joined");
    /// assert_eq!(row.attributes, "nickname=bo");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::TooLarge`] if they are longer.
    pub fn attributes(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        attributes: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(Attributes {
            channel: channel.as_ref(),
            user: user.as_ref(),
            attributes: attributes.as_ref(),
        })
    }
}
