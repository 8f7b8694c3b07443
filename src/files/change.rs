//! What a commit changes, as facts. The body of a commit frame is a run of changes. Each is a tag byte and its fields:
//!
//! ```text
//! 1 message        a record, see `record`
//! 2 name channel   id v, len u8, bytes    the id is the next one
//! 3 name user      id v, len u8, bytes
//! 32 + table       a patch: a v, b v, len v of the fields, fields (see `model::image`)
//! 64 + table       a patch in a table of wide keys: a v, b v, c v, len v, fields
//! 96 + table       the same, of a row that belongs to the change before it
//! ```
//!
//! `v` is a varint. All but names and rows that belong to another change take one version each, in order. A patch is
//! the outcome of an operation, and what follows from a message is one function of the model: so replaying decides
//! nothing, and rules may change without touching old logs.

use super::record::Record;
use crate::model::codec::{Put, Reader};
use crate::model::ids::Named;
use crate::model::key::Key;

/// One change of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A message.
    Message(Record<'a>),
    /// A new name.
    Name {
        /// Of which kind.
        named: Named,
        /// Its id.
        id: u32,
        /// The name.
        name: &'a [u8],
    },
    /// A row changed.
    Patch {
        /// Its table.
        table: u8,
        /// Whether the table's keys have three parts.
        wide: bool,
        /// Its key.
        key: Key,
        /// The fields that got new values.
        fields: &'a [u8],
    },
    /// A row of a table of wide keys changed with the change before it, and has its version.
    Beside {
        /// Its table.
        table: u8,
        /// Its key.
        key: Key,
        /// The fields that got new values.
        fields: &'a [u8],
    },
}

/// The tag of a message, which stands in front of its record.
const MESSAGE: u8 = 1;
const NAME_CHANNEL: u8 = 2;
const NAME_USER: u8 = 3;
const PATCH: u8 = 32;
const WIDE_PATCH: u8 = 64;
const BESIDE: u8 = 96;
/// Tables have lower numbers.
const TABLES: u8 = 32;

/// More bytes than the changes of any operation take in the log beyond what it takes in a batch.
pub const OVERHEAD: usize = 192;

impl<'a> Change<'a> {
    /// Appends the encoded change. A message's record begins one byte after the start.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Change::Message(record) => {
                out.put_u8(MESSAGE);
                record.encode(out);
            }
            Change::Name { named, id, name } => {
                out.put_u8(if named == Named::Channel { NAME_CHANNEL } else { NAME_USER });
                out.put_varint(id.into());
                out.put_u8(name.len() as u8);
                out.put(name);
            }
            Change::Patch { table, wide, key, fields } => {
                put_patch(out, table | if wide { WIDE_PATCH } else { PATCH }, wide, key, fields);
            }
            Change::Beside { table, key, fields } => put_patch(out, table | BESIDE, true, key, fields),
        }
    }

    /// Decodes the next change; `None` if there is no valid one.
    pub fn decode(r: &mut Reader<'a>) -> Option<Change<'a>> {
        match r.u8()? {
            MESSAGE => {
                let record = Record::decode(r.rest())?;
                r.bytes(record.encoded_len())?;
                Some(Change::Message(record))
            }
            NAME_CHANNEL => name(Named::Channel, r),
            NAME_USER => name(Named::User, r),
            tag @ PATCH..WIDE_PATCH => patch(tag - PATCH, false, r),
            tag @ WIDE_PATCH..BESIDE => patch(tag - WIDE_PATCH, true, r),
            tag if (BESIDE..BESIDE + TABLES).contains(&tag) => match patch(tag - BESIDE, true, r)? {
                Change::Patch { table, key, fields, .. } => Some(Change::Beside { table, key, fields }),
                _ => None,
            },
            _ => None,
        }
    }
}

fn put_patch(out: &mut Vec<u8>, tag: u8, wide: bool, key: Key, fields: &[u8]) {
    out.put_u8(tag);
    out.put_varint(key.a.into());
    out.put_varint(key.b);
    if wide {
        out.put_varint(key.c);
    }
    out.put_varint(fields.len() as u64);
    out.put(fields);
}

fn name<'a>(named: Named, r: &mut Reader<'a>) -> Option<Change<'a>> {
    let (id, len) = (r.varint32()?, usize::from(r.u8()?));
    let name = r.bytes(len).filter(|name| !name.is_empty())?;
    Some(Change::Name { named, id, name })
}

fn patch<'a>(table: u8, wide: bool, r: &mut Reader<'a>) -> Option<Change<'a>> {
    let a = r.varint32()?;
    let key = match wide {
        true => Key { a, b: r.varint()?, c: r.varint()? },
        false => Key { a, b: r.varint32()?.into(), c: 0 },
    };
    let len = usize::try_from(r.varint()?).ok()?;
    Some(Change::Patch { table, wide, key, fields: r.bytes(len)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{ChannelId, UserId};
    use crate::model::mark::Mark;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn changes_round_trip(ids in any::<(u32, u32)>(), seq: u64, at: i64, name in proptest::collection::vec(any::<u8>(), 1..=255)) {
            let key = Key { a: ids.0, b: ids.1.into(), c: 0 };
            let record = Record {
                channel: ChannelId(ids.0), sender: UserId(ids.1), mark: Mark { seq, ordinal: seq / 3 }, version: 9,
                timestamp: at, silent: true, id: Some(seq), client_id: None, unique_id: None, quiet: 0, fields: &[], payload: &name,
            };
            let changes = [
                Change::Message(record),
                Change::Name { named: Named::Channel, id: ids.0, name: &name },
                Change::Name { named: Named::User, id: ids.1, name: &name },
                Change::Patch { table: 1, wide: false, key, fields: &name },
                Change::Patch { table: 31, wide: true, key: Key { b: seq, c: seq, ..key }, fields: &name },
                Change::Beside { table: 31, key: Key { b: seq, c: seq, ..key }, fields: &name },
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
