//! One message as it lies on disk. The same bytes stand in the log and in message segments, so that sealing copies them.
//!
//! ```text
//! len v            of what follows
//! flags u8         1 silent, 2 has an id, 4 has a client id, 8 has further fields, 16 has a unique id, 32 quiet; no other
//! channel v        sender v
//! seq v            lag v (seq - ordinal)
//! version v        timestamp signed v, in ms since 2020-01-01T00:00:00Z, wrapping
//! id u64           with flag 2
//! client id        with flag 4: len u8, from 1 to 64, and its bytes
//! unique id        with flag 16: len u8, from 1 to 64, and its bytes
//! quiet v          with flag 32: how far the last message before it lies that is not quiet, as a difference of seqs, or its seq
//!                  if there is none; at least 1
//! fields           with flag 8: len v, at least 1, and bytes that mean nothing here and are kept as they are
//! payload          the rest
//! ```
//!
//! `v` is a varint, and the header about 20 bytes. Invariant: a record has one form only, so what was decoded is encoded
//! to the same bytes. Nothing in it depends on how many members a channel has.

use bytes::Bytes;

use crate::model::codec::{Put, Reader, signed_len, varint_len};
use crate::model::expiry;
use crate::model::ids::{ChannelId, MAX_CLIENT_ID, UserId};
use crate::model::mark::Mark;

/// The most bytes that are needed in order to tell a record's length: a varint of 32 bits.
pub const LEAD: usize = 5;
/// The least bytes that a record takes: a byte for each number, and the flags.
pub const MIN: usize = 8;
/// The most bytes that a record takes beyond id, client id, fields and payload: three numbers of 32 bits, five of 64, the
/// flags, and the lengths of client id, unique id and fields.
#[cfg(test)]
pub const MAX_HEADER: usize = 3 * 5 + 5 * 10 + 1 + 1 + 1 + 5;
/// 2020-01-01T00:00:00Z in Unix milliseconds. Timestamps near it are short.
const EPOCH: i64 = 1_577_836_800_000;

const SILENT: u8 = 1;
const HAS_ID: u8 = 2;
const HAS_CLIENT_ID: u8 = 4;
const HAS_FIELDS: u8 = 8;
const HAS_UNIQUE_ID: u8 = 16;
const QUIET: u8 = 32;

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
    pub unique_id: Option<&'a [u8]>,
    /// Of a quiet message: the seqs from the last message before it that is not quiet, or from the channel's begin; else 0.
    pub quiet: u64,
    /// Further fields (`model::expiry`), which mean nothing here; empty if there are none.
    pub fields: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The length of the encoded record. That of a decoded one is cheaper to have from [`Record::read`].
    pub fn encoded_len(&self) -> usize {
        let body = self.body_len();
        varint_len(body as u64) + body
    }

    /// What the length says: all that follows it.
    fn body_len(&self) -> usize {
        let lag = self.mark.seq - self.mark.ordinal;
        let numbers = [self.channel.0.into(), self.sender.0.into(), self.mark.seq, lag, self.version];
        let numbers: usize = numbers.into_iter().map(varint_len).sum();
        let id = self.id.map_or(0, |_| 8);
        1 + numbers + signed_len(since_epoch(self.timestamp)) + id + self.tail_len()
    }

    /// The length of what follows the first numbers.
    fn tail_len(&self) -> usize {
        let client_id = self.client_id().map_or(0, |id| 1 + id.len());
        let unique_id = self.unique_id().map_or(0, |id| 1 + id.len());
        let quiet = if self.quiet > 0 { varint_len(self.quiet) } else { 0 };
        let fields = self.fields().map_or(0, |fields| varint_len(fields.len() as u64) + fields.len());
        client_id + unique_id + quiet + fields + self.payload.len()
    }

    /// When it expires, in Unix milliseconds, if it does.
    #[inline]
    pub fn expires(&self) -> Option<i64> {
        if self.fields.is_empty() { None } else { expiry::expires(self.fields) }
    }

    fn client_id(&self) -> Option<&'a [u8]> {
        self.client_id.filter(|id| !id.is_empty())
    }

    fn unique_id(&self) -> Option<&'a [u8]> {
        self.unique_id.filter(|id| !id.is_empty())
    }

    fn fields(&self) -> Option<&'a [u8]> {
        Some(self.fields).filter(|fields| !fields.is_empty())
    }

    fn flags(&self) -> u8 {
        (u8::from(self.silent) * SILENT)
            | (u8::from(self.id.is_some()) * HAS_ID)
            | (u8::from(self.client_id().is_some()) * HAS_CLIENT_ID)
            | (u8::from(self.fields().is_some()) * HAS_FIELDS)
            | (u8::from(self.unique_id().is_some()) * HAS_UNIQUE_ID)
            | (u8::from(self.quiet > 0) * QUIET)
    }

    /// Appends the encoded record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut numbers = Numbers { bytes: [0; 64], len: 0 };
        numbers.put_u8(self.flags());
        numbers.put_varint(self.channel.0.into());
        numbers.put_varint(self.sender.0.into());
        numbers.put_varint(self.mark.seq);
        numbers.put_varint(self.mark.seq - self.mark.ordinal);
        numbers.put_varint(self.version);
        numbers.put_signed(since_epoch(self.timestamp));
        if let Some(id) = self.id {
            numbers.put_u64(id);
        }
        out.put_varint((numbers.len + self.tail_len()) as u64);
        out.put(&numbers.bytes[..numbers.len]);
        if let Some(client_id) = self.client_id() {
            out.put_u8(client_id.len() as u8);
            out.put(client_id);
        }
        if let Some(unique_id) = self.unique_id() {
            out.put_u8(unique_id.len() as u8);
            out.put(unique_id);
        }
        if self.quiet > 0 {
            out.put_varint(self.quiet);
        }
        if let Some(fields) = self.fields() {
            out.put_varint(fields.len() as u64);
            out.put(fields);
        }
        out.put(self.payload);
    }

    /// Decodes the record at the start of `bytes`, which may go on after it. `None` if it is no valid record.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        Record::read(bytes).map(|(record, _)| record)
    }

    /// Like [`Record::decode`], and tells the record's length too.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let mut r = Reader::new(bytes);
        let len = r.varint32()? as usize;
        let body = r.bytes(len)?;
        Some((Record::read_body(Reader::new(body))?, r.position()))
    }

    #[inline]
    fn read_body(mut r: Reader<'a>) -> Option<Record<'a>> {
        let flags = r.u8()?;
        if flags & !(SILENT | HAS_ID | HAS_CLIENT_ID | HAS_FIELDS | HAS_UNIQUE_ID | QUIET) != 0 {
            return None;
        }
        let (channel, sender) = (ChannelId(r.varint32()?), UserId(r.varint32()?));
        let (seq, lag, version, timestamp) = (r.varint()?, r.varint()?, r.varint()?, r.signed()?);
        let mark = Mark { seq, ordinal: seq.checked_sub(lag)? };
        let id = if flags & HAS_ID == 0 { None } else { Some(r.u64()?) };
        let client_id = if flags & HAS_CLIENT_ID == 0 { None } else { Some(named_id(&mut r)?) };
        let unique_id = if flags & HAS_UNIQUE_ID == 0 { None } else { Some(named_id(&mut r)?) };
        let quiet =
            if flags & QUIET == 0 { 0 } else { r.varint().filter(|back| (1..=seq).contains(back))? };
        let fields = if flags & HAS_FIELDS == 0 { &[] } else { fields(&mut r)? };
        Some(Record {
            channel,
            sender,
            mark,
            version,
            timestamp: timestamp.wrapping_add(EPOCH),
            silent: flags & SILENT != 0,
            id,
            client_id,
            unique_id,
            quiet,
            fields,
            payload: r.rest(),
        })
    }
}

/// The first numbers of a record: at most 59 bytes, written without a look at a buffer's capacity for each.
struct Numbers {
    bytes: [u8; 64],
    len: usize,
}

impl Put for Numbers {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.bytes[self.len] = value;
        self.len += 1;
    }
}

fn since_epoch(timestamp: i64) -> i64 {
    timestamp.wrapping_sub(EPOCH)
}

/// A client id or a unique id.
fn named_id<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = usize::from(r.u8()?);
    if (1..=MAX_CLIENT_ID).contains(&len) { r.bytes(len) } else { None }
}

fn fields<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = r.varint32()? as usize;
    r.bytes(len).filter(|fields| !fields.is_empty())
}

/// The whole length of the record that begins with `bytes`, of which [`LEAD`] are enough, and fewer if it is shorter.
/// `None` if no record does.
pub fn len(bytes: &[u8]) -> Option<usize> {
    let mut r = Reader::new(bytes);
    let body = r.varint32()? as usize;
    r.position().checked_add(body).filter(|len| *len >= MIN)
}

/// The part of `whole` that `part` borrows, shared instead of copied.
pub fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number of any length.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn every_field_round_trips(
            ids in any::<(u32, u32)>(), seq in number(), counted in number(), version in number(), timestamp: i64,
            silent: bool, id: Option<u64>, client in proptest::collection::vec(any::<u8>(), 0..=64),
            unique in proptest::collection::vec(any::<u8>(), 0..=64), fields: Vec<u8>, payload: Vec<u8>, behind: Vec<u8>,
            quiet in number(),
        ) {
            let record = Record {
                channel: ChannelId(ids.0), sender: UserId(ids.1), mark: Mark { seq, ordinal: counted % seq.max(1) },
                version, timestamp, silent, id, client_id: Some(&client[..]).filter(|c| !c.is_empty()),
                unique_id: Some(&unique[..]).filter(|c| !c.is_empty()), quiet: quiet.min(seq), fields: &fields, payload: &payload,
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert!(bytes.len() <= MAX_HEADER + 8 + client.len() + unique.len() + fields.len() + payload.len());
            let whole = bytes.len();
            prop_assert_eq!(len(&bytes[..LEAD]), Some(whole));
            bytes.extend(behind);
            prop_assert_eq!(Record::read(&bytes), Some((record, whole)));
            prop_assert_eq!(Record::decode(&bytes[..whole - 1]), None);
        }

        #[test]
        fn any_bytes_are_one_record_or_none(bytes: Vec<u8>) {
            if let Some((record, len)) = Record::read(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(again, &bytes[..len]);
            }
        }
    }

    const PLAIN: Record<'_> = Record {
        channel: ChannelId(1000),
        sender: UserId(100_000),
        mark: Mark { seq: 1000, ordinal: 1000 },
        version: 10_000_000,
        timestamp: EPOCH + 6 * 365 * 86_400_000,
        silent: false,
        id: None,
        client_id: None,
        unique_id: None,
        quiet: 0,
        fields: b"",
        payload: b"hi",
    };

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    #[test]
    fn the_header_is_short_and_never_longer_than_told() {
        assert_eq!(encoded(&PLAIN).len(), 20 + PLAIN.payload.len());
        let mark = Mark { seq: u64::MAX, ordinal: 0 };
        let timestamp = i64::MIN.wrapping_add(EPOCH);
        let (channel, sender) = (ChannelId(u32::MAX), UserId(u32::MAX));
        let most = Record { channel, sender, mark, version: u64::MAX, timestamp, quiet: u64::MAX, ..PLAIN };
        assert_eq!(Record::decode(&encoded(&most)), Some(most));
        // A byte for the length, none for those of client id, unique id and fields.
        assert_eq!(encoded(&most).len() - PLAIN.payload.len(), MAX_HEADER - 4 - 1 - 1 - 5);
        let least = Record {
            channel: ChannelId(0),
            sender: UserId(0),
            mark: Mark::default(),
            version: 0,
            timestamp: EPOCH,
            payload: b"",
            ..PLAIN
        };
        assert_eq!(encoded(&least).len(), MIN);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let full = Record { id: Some(7), client_id: Some(b"c"), fields: b"f", ..PLAIN };
        let good = encoded(&full);
        assert_eq!(Record::decode(&good), Some(full));
        for flag in [64, 128] {
            let mut bad = good.clone();
            bad[1] |= flag;
            assert_eq!(Record::decode(&bad), None);
        }
        let client = good.len() - full.payload.len() - 4;
        assert_eq!(good[client..client + 4], *b"\x01c\x01f");
        for (at, value) in [(client, 0), (client, 65), (client + 2, 0), (client + 2, 4), (0, 6), (0, 127)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Record::decode(&bad), None, "{value} at {at}");
        }
        let quiet = Record { quiet: 1000, ..PLAIN };
        let mut bad = encoded(&quiet);
        let at = bad.len() - PLAIN.payload.len() - 2;
        assert_eq!(bad[at..at + 2], [0xe8, 0x07]);
        for distance in [[0xe9, 0x07], [0x80, 0x00], [0x00, 0x07]] {
            bad[at..at + 2].copy_from_slice(&distance);
            assert_eq!(Record::decode(&bad), None, "a distance of {distance:?}");
        }
        // A lag beyond the seq.
        let mut bad = encoded(&PLAIN);
        assert_eq!(bad[7..10], [0xe8, 0x07, 0]);
        bad[7..10].copy_from_slice(&[1, 2, 0]);
        assert_eq!(Record::decode(&bad), None);
        assert_eq!((len(&[]), len(&[6]), len(&[7]), len(&[0x80; 5])), (None, None, Some(8), None));
    }
}
