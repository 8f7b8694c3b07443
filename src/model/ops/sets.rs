//! Putting users into the sets of a channel, and taking them out.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::key::ChannelSetUser;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::set::{MAX_SET_ATTRIBUTES, SetMember, field};
use crate::model::state::Transaction;

operation! {
    /// Puts a user into a set of a channel, or replaces the attributes there. Makes both if need be.
    AddToSet = 42 "add_to_set" { channel: channel, user: user, set: number, attributes: maybe_bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        set_of(self.set)?;
        let (len, limit) = (self.attributes.unwrap_or_default().len() as u64, MAX_SET_ATTRIBUTES as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "the attributes' number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (channel, user) = (txn.make_channel(self.channel)?, txn.make_user(self.user)?);
        let key = ChannelSetUser { channel, set: set_of(self.set)?, user };
        let row = txn.row::<SetMember>(key)?.filter(SetMember::present);
        let patch = match (&row, self.attributes) {
            (Some(row), wanted) if wanted.is_none_or(|wanted| wanted == row.attributes) => {
                return Ok(Outcome::Unchanged);
            }
            (Some(_), _) => Patch::new(),
            (None, _) => Patch::reset(),
        };
        let patch = match self.attributes.map(Bytes::copy_from_slice) {
            Some(attributes) => patch.set(field::attributes, attributes),
            None => patch,
        };
        txn.patch::<SetMember>(key, patch)
    }
}

operation! {
    /// Takes a user out of a set of a channel.
    RemoveFromSet = 43 "remove_from_set" { channel: channel, user: user, set: number, }

    fn check(&self, _: &Limits) -> Result<()> {
        set_of(self.set).map(drop)
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (Some(channel), Some(user)) = (txn.find_channel(self.channel)?, txn.find_user(self.user)?) else {
            return Ok(Outcome::Unchanged);
        };
        let key = ChannelSetUser { channel, set: set_of(self.set)?, user };
        match txn.row::<SetMember>(key)?.filter(SetMember::present) {
            Some(_) => {
                // Tombstones are to be small.
                txn.patch::<SetMember>(key, Patch::reset().set(field::removed_at, Some(txn.now())))
            }
            None => Ok(Outcome::Unchanged),
        }
    }
}

/// The set of a number in an operation.
fn set_of(number: u64) -> Result<u8> {
    u8::try_from(number).map_err(|_| Error::invalid(format!("a set {number}; 0 to 255 are allowed")))
}

impl Batch {
    /// Puts a user into a set of a channel, as a deny list, an allow list, or the invited, the banned and those who knock:
    /// a set is a number whose meaning the server chooses, and each channel has 256 of them. Makes channel and user if need
    /// be; who is in a set need not be a member, and is none by it. Who is in the set already stays there, as is.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// const BANNED: u8 = 3;
    /// store.commit(Batch::new().add_to_set_with("general", BANNED, "mallory", "by=alice"))?;
    /// let row = store.set_member("general", BANNED, "mallory")?.expect("mallory is banned");
    /// assert_eq!(row.attributes, "by=alice");
    /// assert_eq!(store.set("general", BANNED).list()?[0].name, "mallory");
    /// assert_eq!(store.sets_of("mallory", BANNED).list()?[0].name, "general");
    /// assert_eq!(store.head("general")?.members, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_to_set(&mut self, channel: impl AsRef<[u8]>, set: u8, user: impl AsRef<[u8]>) -> &mut Self {
        let (channel, user) = (channel.as_ref(), user.as_ref());
        self.push(AddToSet { channel, user, set: set.into(), attributes: None })
    }

    /// Puts a user into a set of a channel with attributes, up to [`MAX_SET_ATTRIBUTES`] bytes that mean what the server says.
    /// They replace those of who is in the set already, and end when the user is taken out.
    ///
    /// # Errors
    /// Committing it is refused with [`Error::TooLarge`] if they are longer.
    pub fn add_to_set_with(
        &mut self,
        channel: impl AsRef<[u8]>,
        set: u8,
        user: impl AsRef<[u8]>,
        attributes: impl AsRef<[u8]>,
    ) -> &mut Self {
        let (channel, user) = (channel.as_ref(), user.as_ref());
        self.push(AddToSet { channel, user, set: set.into(), attributes: Some(attributes.as_ref()) })
    }

    /// Takes a user out of a set of a channel. For who is not in it this changes nothing.
    ///
    /// To empty a set, list it page by page and take out whom it has.
    pub fn remove_from_set(
        &mut self,
        channel: impl AsRef<[u8]>,
        set: u8,
        user: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(RemoveFromSet { channel: channel.as_ref(), user: user.as_ref(), set: set.into() })
    }
}
