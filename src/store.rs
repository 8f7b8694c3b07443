//! The handle that callers hold.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{Batch, Receipt};
use crate::conversation::Conversations;
use crate::error::Result;
use crate::history::History;
use crate::listing::{Listing, Of};
use crate::options::Options;
use crate::stat::{Recovery, Stat};
use crate::types::{Head, Mark};

/// An open store. Cheap to clone; all clones are one store, which closes when the last one goes.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<()>,
}

/// One membership and its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Membership {
    /// The first seq that this membership may see, its own hiding apart.
    pub join_seq: u64,
    /// Read up to here, as marked.
    pub read: Mark,
    /// The user's own last message.
    pub own: Mark,
    /// Hidden up to here.
    pub deleted: Mark,
    /// Whether the conversation shows up even while empty.
    pub activated: bool,
    /// The version of the row's last change.
    pub version: u64,
}

/// A commit that was submitted. It may or may not be waited for; dropping it changes nothing.
#[derive(Debug)]
#[must_use = "a commit's outcome is known only after waiting for it"]
pub struct Commit {
    receipt: Receipt,
}

impl Commit {
    /// Whether waiting would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        todo!()
    }

    /// Waits until the commit is as durable as was asked, and visible.
    pub fn wait(self) -> Result<Receipt> {
        Ok(self.receipt)
    }
}

impl Store {
    /// Opens the store in `dir` with the default options, or makes one. See [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Store> {
        Options::new().open(dir)
    }

    pub(crate) fn open_with(options: Options, dir: &Path) -> Result<Store> {
        let _ = (options, dir);
        todo!()
    }

    /// Writes a batch and waits for it: `submit` and `wait` in one.
    pub fn commit(&self, batch: &Batch) -> Result<Receipt> {
        self.submit(batch)?.wait()
    }

    /// Checks and writes a batch, and returns without waiting for its durability.
    pub fn submit(&self, batch: &Batch) -> Result<Commit> {
        let _ = batch;
        todo!()
    }

    /// The head of a channel; an unknown one is empty.
    pub fn head(&self, channel: impl AsRef<[u8]>) -> Result<Head> {
        let _ = channel;
        todo!()
    }

    /// The heads of many channels, all of one moment.
    pub fn heads<N: AsRef<[u8]>>(&self, channels: impl IntoIterator<Item = N>) -> Result<Vec<Head>> {
        let _ = channels.into_iter().count();
        todo!()
    }

    /// A range of a channel's messages.
    pub fn history(&self, channel: impl AsRef<[u8]>) -> History<'_> {
        History::new(self, channel.as_ref())
    }

    /// One membership; `None` for a non-member.
    pub fn membership(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<Membership>> {
        let _ = (channel, user);
        todo!()
    }

    /// A user's conversation list.
    pub fn conversations(&self, user: impl AsRef<[u8]>) -> Conversations<'_> {
        Conversations::new(self, user.as_ref())
    }

    /// The members of a channel, in the order in which the store first met them.
    pub fn members(&self, channel: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(self, Of::Members(channel.as_ref().into()))
    }

    /// The channels that a user is a member of, in the order in which the store first met them.
    pub fn channels_of(&self, user: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(self, Of::ChannelsOf(user.as_ref().into()))
    }

    /// All channels, by name.
    pub fn channels(&self) -> Listing<'_> {
        Listing::new(self, Of::Channels)
    }

    /// All users, by name: whoever joined or sent.
    pub fn users(&self) -> Listing<'_> {
        Listing::new(self, Of::Users)
    }

    /// Whether a user is or ever was a member of a channel.
    pub fn has_memberships(&self, user: impl AsRef<[u8]>) -> Result<bool> {
        let _ = user;
        todo!()
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        todo!()
    }

    /// Counts and sizes.
    pub fn stat(&self) -> Result<Stat> {
        todo!()
    }

    /// Makes all that was written durable.
    pub fn sync(&self) -> Result<()> {
        todo!()
    }

    /// Does one step of sealing or merging, if there is one to do, and tells whether it did.
    pub fn maintain(&self) -> Result<bool> {
        todo!()
    }

    /// Ends the present log segment and seals all there is, whatever its size.
    pub fn seal(&self) -> Result<()> {
        todo!()
    }

    /// Closes the store for all handles. Dropping the last handle does the same, but can't report errors.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
