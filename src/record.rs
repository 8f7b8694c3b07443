//! One message as it lies on disk. The same bytes stand in the log and in message segments, so that sealing copies them.
//!
//! ```text
//! len u32        of the whole record, this field included
//! kind u8        1 = message; later kinds may edit, retract or erase
//! flags u8       1 = silent, 2 = has a message id
//! client_len u8  length of the client id, 0 = none
//! zero u8
//! channel u32    sender u32
//! seq u64        version u64
//! lag u64        seq - ordinal
//! timestamp i64
//! id u64         only with flag 2
//! client id      client_len bytes
//! payload        the rest
//! ```
//!
//! Nothing in a record depends on how many members a channel has.

use bytes::Bytes;

use crate::codec::{Put, Reader};
use crate::types::{ChannelId, MAX_CLIENT_ID, Mark, UserId};

/// The fixed part of a record.
pub const HEADER: usize = 48;
const MESSAGE: u8 = 1;
const SILENT: u8 = 1;
const HAS_ID: u8 = 2;

/// A decoded message that borrows its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub channel: ChannelId,
    pub sender: UserId,
    /// Seq and ordinal.
    pub mark: Mark,
    pub version: u64,
    pub timestamp: i64,
    pub silent: bool,
    pub id: Option<u64>,
    pub client_id: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The length of the encoded record.
    pub fn encoded_len(&self) -> usize {
        HEADER + self.id.map_or(0, |_| 8) + self.client_id.map_or(0, <[u8]>::len) + self.payload.len()
    }

    /// Appends the encoded record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.encoded_len() as u32);
        out.put_u8(MESSAGE);
        out.put_u8((u8::from(self.silent) * SILENT) | (u8::from(self.id.is_some()) * HAS_ID));
        out.put_u8(self.client_id.map_or(0, <[u8]>::len) as u8);
        out.put_u8(0);
        out.put_u32(self.channel.0);
        out.put_u32(self.sender.0);
        out.put_u64(self.mark.seq);
        out.put_u64(self.version);
        out.put_u64(self.mark.seq - self.mark.ordinal);
        out.put_i64(self.timestamp);
        if let Some(id) = self.id {
            out.put_u64(id);
        }
        out.put(self.client_id.unwrap_or_default());
        out.put(self.payload);
    }

    /// Decodes the record at the start of `bytes`, which may go on behind it; its length is [`Record::encoded_len`].
    /// `None` if it is no valid record.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let len = Reader::new(bytes).u32()? as usize;
        let mut r = Reader::new(bytes.get(..len)?);
        r.u32()?;
        let (kind, flags, client_len, zero) = (r.u8()?, r.u8()?, usize::from(r.u8()?), r.u8()?);
        if kind != MESSAGE || flags & !(SILENT | HAS_ID) != 0 || client_len > MAX_CLIENT_ID || zero != 0 {
            return None;
        }
        let (channel, sender) = (ChannelId(r.u32()?), UserId(r.u32()?));
        let (seq, version, lag, timestamp) = (r.u64()?, r.u64()?, r.u64()?, r.i64()?);
        let mark = Mark { seq, ordinal: seq.checked_sub(lag)? };
        let id = if flags & HAS_ID == 0 { None } else { Some(r.u64()?) };
        let client_id = Some(r.bytes(client_len)?).filter(|id| !id.is_empty());
        let payload = r.bytes(r.remaining())?;
        let silent = flags & SILENT != 0;
        Some(Record { channel, sender, mark, version, timestamp, silent, id, client_id, payload })
    }
}

/// The length of the record at the start of `bytes`, unless it is too short to be one.
pub fn len(bytes: &[u8]) -> Option<usize> {
    Reader::new(bytes).u32().map(|len| len as usize).filter(|len| *len >= HEADER)
}

/// The part of `whole` that `part` borrows, shared instead of copied.
pub fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_field_round_trips(
            ids in any::<(u32, u32)>(), seq in 1u64.., counted in any::<u64>(), version: u64, timestamp: i64,
            silent: bool, id: Option<u64>, client in proptest::collection::vec(any::<u8>(), 0..=64),
            payload: Vec<u8>, behind: Vec<u8>,
        ) {
            let record = Record {
                channel: ChannelId(ids.0), sender: UserId(ids.1), mark: Mark { seq, ordinal: counted % seq },
                version, timestamp, silent, id, client_id: Some(&client[..]).filter(|c| !c.is_empty()), payload: &payload,
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert_eq!(len(&bytes), Some(bytes.len()));
            bytes.extend(behind);
            prop_assert_eq!(Record::decode(&bytes), Some(record));
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }
    }
}
