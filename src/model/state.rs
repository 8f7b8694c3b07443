//! The traits that the rules are written against. The layers above implement them; the model knows no file, no lock and no
//! thread.

use super::Table;
use super::blob::{Blob, INLINE};
use super::head::Head;
use super::ids::{ChannelId, LogId, UserId};
use super::image::Patch;
use super::image::Stored;
use super::key::TableKey;
use super::mark::Mark;
use super::message::{NewMessage, Origin, Said};
use super::outcome::Outcome;
use super::position::Position;
use super::window::SendWindow;
use crate::error::{Error, Result};

/// What a change takes its effect on.
pub trait State {
    /// The head of a channel.
    fn head(&self, channel: ChannelId) -> Head;
    /// Replaces the head of a channel.
    fn set_head(&mut self, channel: ChannelId, head: Head);
    /// Replaces a row.
    fn put<T: Table>(&mut self, key: T::Key, image: T);
    /// Notes that a log was applied further.
    fn advance(&mut self, _log: LogId, _before: Option<&Position>, _after: &Position) {}
    /// Whether there are the channel and the user that a key names.
    fn knows(&self, _key: impl TableKey) -> bool {
        true
    }
}

/// What an operation is run in: it reads what is there, and says what changes.
pub trait Transaction {
    /// The place of the operation in its batch.
    fn index(&self) -> usize;
    /// The time, in Unix milliseconds.
    fn now(&self) -> i64;
    /// Whether the store is a replica, so that its time is that of batches.
    fn replica(&self) -> bool;
    /// The version of the last change so far.
    fn version(&self) -> u64;
    /// The version of the batch's first change, if it makes any.
    fn first_version(&self) -> u64;
    /// How long client ids make sends unique.
    fn window(&self) -> SendWindow;
    /// The hash of some parts as one, under the store's key: nobody who does not know the key can choose two that are alike.
    fn hash(&self, parts: &[&[u8]]) -> u64;
    /// The channel of a name, if there is one.
    fn find_channel(&mut self, name: &[u8]) -> Result<Option<ChannelId>>;
    /// The user of a name, if there is one.
    fn find_user(&mut self, name: &[u8]) -> Result<Option<UserId>>;
    /// The channel of a name, which is made if need be.
    fn make_channel(&mut self, name: &[u8]) -> Result<ChannelId>;
    /// The user of a name, who is made if need be.
    fn make_user(&mut self, name: &[u8]) -> Result<UserId>;
    /// The user of a name in a list of the operation, who is made if need be.
    fn make_listed(&mut self, name: &[u8]) -> Result<UserId>;
    /// The head of a channel.
    fn head(&mut self, channel: ChannelId) -> Head;
    /// A row, tombstones included.
    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>>;
    /// The mark of the last message up to `seq`, which is not beyond the channel's end.
    fn place(&mut self, channel: ChannelId, seq: u64) -> Result<Mark>;
    /// What a message was sent with, if there is one of this seq, which is not beyond the channel's end.
    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>>;
    /// The last message up to `seq`, which is not beyond the channel's end nor trimmed.
    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin>;
    /// Whether anything became of any user.
    fn any_fates(&self) -> bool;
    /// Visits the rows of `from`'s group from there on, in any order. They are all read before the writer's lock, so it is
    /// for few rows.
    fn each_after<T: Table>(&mut self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) -> Result<()>;
    /// Appends a message.
    fn append(&mut self, message: NewMessage<'_>) -> Result<Outcome>;
    /// Writes bytes as a value, which takes a version. `hash` is theirs.
    fn store(&mut self, bytes: &[u8], hash: u64) -> Result<Stored>;
    /// Changes a row.
    fn patch<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<Outcome>;
    /// Changes a row of a table of wide keys that belongs to the last change, such as a message, and gets its version.
    fn patch_beside<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<()>;
    /// The same of a row that can't be there yet, as nothing before was of its key. Nothing is read.
    fn add_beside<T: Table>(&mut self, key: T::Key, patch: Patch) -> Result<()>;

    /// Keeps bytes for a field of a row that holds `before` so far, if there is a row: what to set it to, or `None` if it holds the same. Long
    /// ones are written here, in front of the patch. No value is read for it.
    fn keep(&mut self, before: Option<&Blob>, bytes: &[u8]) -> Result<Option<Blob>> {
        if bytes.len() <= INLINE {
            return Ok(before.is_none_or(|before| *before != bytes).then(|| Blob::here(bytes)));
        }
        let hash = self.hash(&[bytes]);
        let same = |stored: &Stored| (stored.len as usize, stored.hash) == (bytes.len(), hash);
        if before.and_then(Blob::stored).is_some_and(same) {
            return Ok(None);
        }
        self.store(bytes, hash).map(Blob::elsewhere).map(Some)
    }

    /// The mark at `seq`, which is not beyond the channel's end: its ordinal is that of the last message up to it.
    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        let place = self.place(channel, seq)?;
        Ok(Mark { seq, ordinal: place.ordinal })
    }

    /// The refusal of an operation on somebody who is no member.
    fn not_member(&self) -> Error {
        Error::NotMember { op: self.index(), version: self.version() }
    }
}
