//! What a server keeps with a user.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::channel::MAX_CHANNEL_ATTRIBUTES;
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;
use crate::model::user::{User, field};

operation! {
    /// Replaces the attributes of a user. Makes the user if need be.
    UserAttributes = 17 "user_attributes" { user: user, attributes: bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        let (len, limit) = (self.attributes.len() as u64, MAX_CHANNEL_ATTRIBUTES as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "the attributes' number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let user = txn.make_user(self.user)?;
        let row = txn.row::<User>(user)?;
        match txn.keep(row.as_ref().map(|row| &row.attributes), self.attributes)? {
            Some(attributes) => txn.patch::<User>(user, Patch::new().set(field::attributes, attributes)),
            None => Ok(Outcome::Unchanged),
        }
    }
}

impl Batch {
    /// Replaces the attributes of a user: up to [`MAX_CHANNEL_ATTRIBUTES`] bytes that mean what the server says. Makes the
    /// user if need be. They are in nobody's list.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// store.commit(Batch::new().user_attributes("anna", "title=Anna"))?;
    /// assert_eq!(store.user("anna")?.expect("it is known now").attributes, "title=Anna");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::TooLarge`] if they are longer.
    pub fn user_attributes(&mut self, user: impl AsRef<[u8]>, attributes: impl AsRef<[u8]>) -> &mut Self {
        self.push(UserAttributes { user: user.as_ref(), attributes: attributes.as_ref() })
    }
}
