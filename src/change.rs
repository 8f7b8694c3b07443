//! What a commit changes, as facts: names and marks are resolved, so that replaying needs no decision.
//!
//! The body of a commit frame is a run of changes. Each is a tag byte and its fields:
//!
//! ```text
//! 1 message        a record, see `record`
//! 2 name channel   len u8, bytes       gives the next channel id to a name
//! 3 name user      len u8, bytes       gives the next user id to a name
//! 4 join           channel v, user v, base mark, read mark
//! 5 leave          channel v, user v, at i64 (Unix ms)
//! 6 read           channel v, user v, mark
//! 7 hide           channel v, user v, mark
//! 8 activate       channel v, user v
//! ```
//!
//! `v` is a varint; a mark is seq v, lag v (seq - ordinal). All but the names take one version each, in order.

use crate::codec::{Put, Reader};
use crate::record::Record;
use crate::types::{ChannelId, Mark, UserId};

/// One change of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Message(Record<'a>),
    NameChannel(&'a [u8]),
    NameUser(&'a [u8]),
    Join { key: Key, base: Mark, read: Mark },
    Leave { key: Key, at: i64 },
    Read { key: Key, mark: Mark },
    Hide { key: Key, mark: Mark },
    Activate { key: Key },
}

/// Whose row a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub user: UserId,
    pub channel: ChannelId,
}

/// The tag of a message, which stands in front of its record.
const MESSAGE: u8 = 1;
const NAME_CHANNEL: u8 = 2;
const NAME_USER: u8 = 3;
const JOIN: u8 = 4;
const LEAVE: u8 = 5;
const READ: u8 = 6;
const HIDE: u8 = 7;
const ACTIVATE: u8 = 8;

/// More bytes than any change takes, its name or record apart.
pub const OVERHEAD: usize = 64;

impl<'a> Change<'a> {
    /// Appends the encoded change. A message's record begins one byte behind the start.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Change::Message(record) => {
                out.put_u8(MESSAGE);
                record.encode(out);
            }
            Change::NameChannel(name) => put_name(out, NAME_CHANNEL, name),
            Change::NameUser(name) => put_name(out, NAME_USER, name),
            Change::Join { key, base, read } => {
                put_key(out, JOIN, *key);
                put_mark(out, *base);
                put_mark(out, *read);
            }
            Change::Leave { key, at } => {
                put_key(out, LEAVE, *key);
                out.put_i64(*at);
            }
            Change::Read { key, mark } => {
                put_key(out, READ, *key);
                put_mark(out, *mark);
            }
            Change::Hide { key, mark } => {
                put_key(out, HIDE, *key);
                put_mark(out, *mark);
            }
            Change::Activate { key } => put_key(out, ACTIVATE, *key),
        }
    }

    /// Decodes the next change; `None` if there is no valid one.
    pub fn decode(reader: &mut Reader<'a>) -> Option<Change<'a>> {
        Some(match reader.u8()? {
            MESSAGE => {
                let record = Record::decode(reader.rest())?;
                reader.bytes(record.encoded_len())?;
                Change::Message(record)
            }
            NAME_CHANNEL => Change::NameChannel(name(reader)?),
            NAME_USER => Change::NameUser(name(reader)?),
            JOIN => Change::Join { key: key(reader)?, base: mark(reader)?, read: mark(reader)? },
            LEAVE => Change::Leave { key: key(reader)?, at: reader.i64()? },
            READ => Change::Read { key: key(reader)?, mark: mark(reader)? },
            HIDE => Change::Hide { key: key(reader)?, mark: mark(reader)? },
            ACTIVATE => Change::Activate { key: key(reader)? },
            _ => return None,
        })
    }

    /// Whether it takes a version.
    pub fn versioned(&self) -> bool {
        !matches!(self, Change::NameChannel(_) | Change::NameUser(_))
    }
}

fn put_name(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    out.put_u8(tag);
    out.put_u8(name.len() as u8);
    out.put(name);
}

fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = usize::from(reader.u8()?);
    reader.bytes(len).filter(|name| !name.is_empty())
}

fn put_key(out: &mut Vec<u8>, tag: u8, key: Key) {
    out.put_u8(tag);
    out.put_varint(key.channel.0.into());
    out.put_varint(key.user.0.into());
}

fn key(reader: &mut Reader<'_>) -> Option<Key> {
    let channel = ChannelId(reader.varint32()?);
    Some(Key { channel, user: UserId(reader.varint32()?) })
}

fn put_mark(out: &mut Vec<u8>, mark: Mark) {
    out.put_varint(mark.seq);
    out.put_varint(mark.seq - mark.ordinal);
}

fn mark(reader: &mut Reader<'_>) -> Option<Mark> {
    let seq = reader.varint()?;
    Some(Mark { seq, ordinal: seq.checked_sub(reader.varint()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn changes_round_trip(ids in any::<(u32, u32)>(), seq: u64, at: i64, name in proptest::collection::vec(any::<u8>(), 1..=255)) {
            let key = Key { channel: ChannelId(ids.0), user: UserId(ids.1) };
            let mark = Mark { seq, ordinal: seq / 3 };
            let record = Record {
                channel: key.channel, sender: key.user, mark, version: 9, timestamp: at, silent: true, id: Some(seq),
                client_id: None, payload: &name,
            };
            let changes = [
                Change::Message(record), Change::NameChannel(&name), Change::NameUser(&name),
                Change::Join { key, base: mark, read: Mark::default() }, Change::Leave { key, at },
                Change::Read { key, mark }, Change::Hide { key, mark }, Change::Activate { key },
            ];
            let mut bytes = Vec::new();
            changes.iter().for_each(|change| change.encode(&mut bytes));
            let mut reader = Reader::new(&bytes);
            for change in changes {
                prop_assert_eq!(Change::decode(&mut reader), Some(change));
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while Change::decode(&mut reader).is_some() {}
        }
    }
}
