//! The byte format of a message segment: what the content and the footer of its sealed file hold. All integers are
//! little-endian.
//!
//! ```text
//! content    blocks, tails, index, entries, directory, one after another without a hole
//! blocks     stored bytes of each block; raw, it is whole records (see `record`), in order of (channel, seq)
//! tails      last records of channels, raw, in order of channel; such a record lies here only, in no block
//! index      64 B a block, in order: first record's channel u32, its seq u64, offset u64, stored len u32, raw len u32,
//!            records u32, least and greatest timestamp i64 each, least and greatest version u64 each
//! entries    what the segment holds of each channel, in groups of 16; see `directory`
//! directory  12 B a group, in order: first channel u32, offset from the begin of the entries u64
//! footer     version u32, zero u32, offsets of tails, index, entries and directory u64 each, blocks u64, channels u64,
//!            messages u64, first version u64, last version u64
//! ```
//!
//! A block is lz4 unless stored len and raw len are equal; then it is raw, and its payloads are shared without a copy.
//! Blocks know nothing of channels: a record goes on where the one before ends, so that a million small channels cost
//! neither a million index entries nor their compression. The fixed-width parts are searched in place.
//!
//! A decoded value has sane lengths; that its offsets lie where they should is for the reader to check.

use std::ops::RangeInclusive;

use super::chain::Chain;
use crate::error::{Error, Result};
use crate::files::record;
use crate::files::sealed::{HEADER, Sealed};
use crate::model::codec::{Put, Reader};
use crate::model::ids::ChannelId;

/// How many entries a group of the directory has.
pub const GROUP: usize = 16;
/// The length of what the fixed-width part of the directory tells of a group.
pub const GUIDE: usize = 12;
/// The only format that this release writes and reads.
pub const VERSION: u32 = 3;
/// A block is closed before it grows beyond this many raw bytes. A longer record has a block of its own.
pub const BLOCK: usize = 16 << 10;
/// No record, and so no block, is larger: the largest payload is half of it.
pub const MAX_RAW: u32 = 32 << 20;
/// No lz4 block expands by more than this.
const MAX_RATIO: u64 = 255;

/// Every timestamp.
pub const EVER: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// The place of a record in the order of a segment.
pub type Key = (ChannelId, u64);

/// What a segment holds of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first message's seq.
    pub first_seq: u64,
    /// The last message's seq.
    pub last_seq: u64,
    /// The bytes of its records in blocks, before compression.
    pub bytes: u64,
    /// How the channel continues in older files.
    pub chain: Chain,
}

/// What a block's index entry tells of its records together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub records: u32,
    /// The least and the greatest timestamp.
    pub times: (i64, i64),
    /// The least and the greatest version.
    pub versions: (u64, u64),
}

impl Summary {
    /// Of no record.
    pub const EMPTY: Summary = Summary { records: 0, times: (i64::MAX, i64::MIN), versions: (u64::MAX, 0) };

    /// Counts a record in.
    pub fn note(&mut self, timestamp: i64, version: u64) {
        self.records += 1;
        self.times = (self.times.0.min(timestamp), self.times.1.max(timestamp));
        self.versions = (self.versions.0.min(version), self.versions.1.max(version));
    }

    /// Whether some record may have a timestamp in a range.
    pub fn meets(&self, times: &RangeInclusive<i64>) -> bool {
        self.times.0 <= *times.end() && *times.start() <= self.times.1
    }
}

/// An entry of the block index.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// The first record.
    pub first: Key,
    /// The offset in the file.
    pub offset: u64,
    /// The length in the file.
    pub stored_len: u32,
    /// The length of the records.
    pub raw_len: u32,
    /// The records together.
    pub summary: Summary,
}

impl Handle {
    /// The length of an entry.
    pub const LEN: usize = 64;

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.first.0.0);
        out.put_u64(self.first.1);
        out.put_u64(self.offset);
        out.put_u32(self.stored_len);
        out.put_u32(self.raw_len);
        let Summary { records, times, versions } = self.summary;
        out.put_u32(records);
        out.put_i64(times.0);
        out.put_i64(times.1);
        out.put_u64(versions.0);
        out.put_u64(versions.1);
    }

    /// `None` if the lengths can't be, so that nobody allocates by them.
    pub fn decode(bytes: &[u8]) -> Option<Handle> {
        let mut r = Reader::new(bytes);
        let first = (ChannelId(r.u32()?), r.u64()?);
        let (offset, stored_len, raw_len) = (r.u64()?, r.u32()?, r.u32()?);
        let summary =
            Summary { records: r.u32()?, times: (r.i64()?, r.i64()?), versions: (r.u64()?, r.u64()?) };
        let sane = (1..=MAX_RAW).contains(&raw_len)
            && stored_len <= raw_len
            && u64::from(raw_len) <= u64::from(stored_len) * MAX_RATIO
            && (1..=raw_len / record::MIN as u32).contains(&summary.records);
        sane.then_some(Handle { first, offset, stored_len, raw_len, summary })
    }

    /// Whether the block has to be decompressed.
    pub fn compressed(&self) -> bool {
        self.stored_len != self.raw_len
    }
}

/// The footer. The blocks begin just after the file's header, the directory ends with the content.
#[derive(Clone, Copy, Debug)]
pub struct Footer {
    /// The offset of the tails, and so the end of the blocks.
    pub tails: u64,
    /// The offset of the block index.
    pub index: u64,
    /// The offset of the channels' entries.
    pub entries: u64,
    /// The offset of the directory.
    pub directory: u64,
    /// How many blocks.
    pub blocks: u64,
    /// How many channels.
    pub channels: u64,
    /// How many messages.
    pub messages: u64,
    /// The first and the last version of the range that the segment covers.
    pub versions: (u64, u64),
}

impl Footer {
    /// The encoded footer.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(VERSION);
        out.put_u32(0);
        for offset in [self.tails, self.index, self.entries, self.directory] {
            out.put_u64(offset);
        }
        for count in [self.blocks, self.channels, self.messages] {
            out.put_u64(count);
        }
        out.put_u64(self.versions.0);
        out.put_u64(self.versions.1);
        out
    }

    /// Reads and checks the footer of an open file.
    pub fn read(sealed: &Sealed) -> Result<Footer> {
        let version = Reader::new(sealed.footer()).u32();
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(Error::Unsupported { file: sealed.path().into(), version });
        }
        let footer = Footer::decode(sealed.footer()).filter(|footer| footer.fits(sealed.content_end()));
        footer.ok_or_else(|| sealed.corrupt(sealed.content_end(), "the footer contradicts the content"))
    }

    fn decode(bytes: &[u8]) -> Option<Footer> {
        let mut r = Reader::new(bytes);
        let head = (r.u32()?, r.u32()?);
        let footer = Footer {
            tails: r.u64()?,
            index: r.u64()?,
            entries: r.u64()?,
            directory: r.u64()?,
            blocks: r.u64()?,
            channels: r.u64()?,
            messages: r.u64()?,
            versions: (r.u64()?, r.u64()?),
        };
        (r.is_empty() && head == (VERSION, 0)).then_some(footer)
    }

    /// How many groups of entries there are: all are full but the last.
    pub fn groups(&self) -> u64 {
        self.channels.div_ceil(GROUP as u64)
    }

    /// Whether the sections follow each other and fill the content exactly.
    fn fits(&self, content_end: u64) -> bool {
        let after = |offset: u64, count: u64, len: usize| offset.checked_add(count.checked_mul(len as u64)?);
        HEADER as u64 <= self.tails
            && self.tails <= self.index
            && after(self.index, self.blocks, Handle::LEN) == Some(self.entries)
            && self.entries <= self.directory
            && after(self.directory, self.groups(), GUIDE) == Some(content_end)
            && self.versions.0 <= self.versions.1
    }
}
