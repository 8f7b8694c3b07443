//! Stores as facts: what an export tells, an import takes, and a repair saves.
//!
//! A *fact* is a name, a row as it is now, a message, or a value; together they are all that a store holds, whatever files
//! hold it. They come in one order, so that two stores that hold the same tell the same: names by their ids, rows by
//! table and key, then messages and values by version. So they can be told from files, and made into files, as they come, and
//! neither side holds more than a part of them. What no read gives out is no fact: trimmed messages, the payloads of retracted
//! and erased ones, rows of deleted channels, and values that no row names.
//!
//! `rows` turns images into fields and back; `export` reads facts from a view; `records` puts messages in order;
//! `import` writes facts to a new store. `repair` exports what is whole of a damaged store into an import, after `mend` found
//! out what follows from that; `pardon` notes damage. A new table or field needs nothing here.

pub mod export;
pub mod import;
mod mend;
mod pardon;
mod records;
pub mod repair;
mod rows;

use bytes::Bytes;

use crate::model::mark::Mark;

/// Something that a store holds. Told by [`View::export`](crate::View::export), taken by [`Import`](crate::Import).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// What is true of the whole store. The first of all facts.
    Store(StoreFact),
    /// A channel's name. Those of channels come by their ids, from 0 on; a name whose channel was deleted may come again.
    Channel(Bytes),
    /// A user's name, likewise, after those of channels.
    User(Bytes),
    /// A row. They come by table, and in a table by key.
    Row(RowFact),
    /// A message. They come after all rows, with values, by version.
    Message(MessageFact),
    /// The bytes of a row's field that are too long for the row.
    Value(ValueFact),
}

/// What is true of a whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFact {
    /// The version of the last change.
    pub version: u64,
    /// How many channels have or had names.
    pub channels: u32,
    /// How many users.
    pub users: u32,
    /// The secret key of all hashes in rows. Who knows it can choose ids that collide.
    pub hash_key: [u8; 16],
    /// The ends of sessions that may have taken buffered messages: the last version kept, and how many channels there were.
    /// Channels that had no message since go on behind a gap.
    pub losses: Vec<(u64, u32)>,
}

/// A row: its place, and its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFact {
    /// The number of its table.
    pub table: u8,
    /// What it is found by: three numbers, among them ids of channels and users.
    pub key: [u64; 3],
    /// The version of its last change.
    pub version: u64,
    /// The name of the channel in its key, if there is one. It says the same as the id there.
    pub channel: Option<Bytes>,
    /// The name of the user in its key, likewise.
    pub user: Option<Bytes>,
    /// Its fields, as files hold them. [`RowFact::fields`] tells them.
    pub image: Bytes,
    /// Of a table that this release does not know.
    pub unknown: Option<UnknownTable>,
}

/// What has to be known of a row whose table this release does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnknownTable {
    /// Whether its keys have three parts.
    pub wide: bool,
    /// Whether it has a filter.
    pub filtered: bool,
    /// Two bits beside the image.
    pub tag: u8,
}

/// The value of a row's field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldFact {
    /// A number, or 1 for true.
    Number(u64),
    /// A number that may be negative, such as a time.
    Signed(i64),
    /// A place in a channel.
    Mark(Mark),
    /// Bytes.
    Bytes(Bytes),
    /// Bytes that lie elsewhere, as a [`ValueFact`].
    #[non_exhaustive]
    Value {
        /// The version of the value.
        version: u64,
        /// Its length in bytes.
        len: u32,
        /// Its hash under the store's key.
        hash: u64,
    },
}

impl FieldFact {
    /// A place of bytes that lie elsewhere.
    #[must_use]
    pub fn value(version: u64, len: u32, hash: u64) -> FieldFact {
        FieldFact::Value { version, len, hash }
    }
}

/// A message as it lies in files. The payload of one that was retracted or erased is empty; an edited one has the payload
/// that it was sent with, and its row has the newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFact {
    /// The channel's name.
    pub channel: Bytes,
    /// The channel's id.
    pub channel_id: u32,
    /// The sender's name.
    pub sender: Bytes,
    /// The sender's id.
    pub sender_id: u32,
    /// Its place in the channel.
    pub mark: Mark,
    /// The number of its change in the whole store.
    pub version: u64,
    /// The caller's timestamp, in Unix milliseconds.
    pub timestamp: i64,
    /// Not counted as unread.
    pub silent: bool,
    /// Of a quiet one: how many seqs before it the last message lies that is not quiet; else 0.
    pub quiet: u64,
    /// The caller's number of it.
    pub id: Option<u64>,
    /// The client's id; empty if there is none.
    pub client_id: Bytes,
    /// The caller's unique id; empty if there is none.
    pub unique_id: Bytes,
    /// Further fields, which mean nothing to this release.
    pub fields: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// The bytes of a row's field that are too long for the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueFact {
    /// Its version, by which the row names it.
    pub version: u64,
    /// When it was written, in Unix milliseconds.
    pub timestamp: i64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Messages that a damaged store should hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MissingMessages {
    /// The channel's name.
    pub channel: Bytes,
    /// The first seq.
    pub from: u64,
    /// The last seq.
    pub to: u64,
}

/// A long value that a row of a damaged store names and that is gone. Reading the row tells so; setting it anew mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MissingValue {
    /// The value's version.
    pub version: u64,
    /// The name of the row's table.
    pub table: String,
    /// The row's key. Of `alterations`, an edited message, its second part is the seq.
    pub key: [u64; 3],
    /// The channel of the row, if it is of one.
    pub channel: Option<Bytes>,
    /// The user of the row, likewise.
    pub user: Option<Bytes>,
}

impl MissingValue {
    /// A value that a row names.
    fn of(row: &RowFact, version: u64) -> MissingValue {
        let table = row.table_name().map_or_else(|| row.table.to_string(), str::to_owned);
        MissingValue { version, table, key: row.key, channel: row.channel.clone(), user: row.user.clone() }
    }
}
