//! The byte format of a message segment: what the content and the footer of its sealed file hold. All integers are
//! little-endian.
//!
//! ```text
//! content    blocks, tails, index, directory, one after another without a hole
//! blocks     stored bytes of each block; raw, it is whole records (see `record`), in order of (channel, seq)
//! tails      the last record of each channel, in order of channel; it lies here only, in no block
//! index      28 B a block, in order: first record's channel u32, its seq u64, offset u64, stored len u32, raw len u32
//! directory  40 B a channel, in order: channel u32, first seq u64, last seq u64, prev version u64, tail offset u64,
//!            tail len u32
//! footer     version u32, zero u32, offsets of tails, index and directory u64 each, blocks u64, channels u64,
//!            messages u64, first version u64, last version u64
//! ```
//!
//! A block is lz4 unless stored len and raw len are equal; then it is raw, and its payloads are shared without a copy.
//! Blocks know nothing of channels: a record goes on where the one before ends, so that a million small channels cost
//! neither a million index entries nor their compression. The fixed-width entries are searched in place.
//!
//! A decoded value has sane lengths; that its offsets lie where they should is for the reader to check.

use crate::codec::{Put, Reader};
use crate::error::{Error, Result};
use crate::sealed::{HEADER, Sealed};
use crate::types::ChannelId;

/// The format that this release writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// A block is closed before it grows beyond this many raw bytes. A longer record has a block of its own.
pub const BLOCK: usize = 16 << 10;
/// No record, and so no block, is larger: the largest payload is half of it.
pub const MAX_RAW: u32 = 32 << 20;
/// No lz4 block expands by more than this.
const MAX_RATIO: u64 = 255;

/// The place of a record in the order of a segment.
pub type Key = (ChannelId, u64);

/// What a segment holds of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first message's seq.
    pub first_seq: u64,
    /// The last message's seq.
    pub last_seq: u64,
    /// The version of the channel's last message before this segment; 0 if there is none.
    pub prev_version: u64,
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
}

impl Handle {
    /// The length of an entry.
    pub const LEN: usize = 28;

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.first.0.0);
        out.put_u64(self.first.1);
        out.put_u64(self.offset);
        out.put_u32(self.stored_len);
        out.put_u32(self.raw_len);
    }

    /// `None` if the lengths can't be, so that nobody allocates by them.
    pub fn decode(bytes: &[u8]) -> Option<Handle> {
        let mut r = Reader::new(bytes);
        let first = (ChannelId(r.u32()?), r.u64()?);
        let handle = Handle { first, offset: r.u64()?, stored_len: r.u32()?, raw_len: r.u32()? };
        let sane = (1..=MAX_RAW).contains(&handle.raw_len)
            && handle.stored_len <= handle.raw_len
            && u64::from(handle.raw_len) <= u64::from(handle.stored_len) * MAX_RATIO;
        sane.then_some(handle)
    }

    /// Whether the block has to be decompressed.
    pub fn compressed(&self) -> bool {
        self.stored_len != self.raw_len
    }
}

/// An entry of the directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The channel.
    pub channel: ChannelId,
    /// Its messages here.
    pub extent: Extent,
    /// The offset of its last record.
    pub tail: u64,
    /// The length of its last record.
    pub tail_len: u32,
}

impl Entry {
    /// The length of an entry.
    pub const LEN: usize = 40;

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.channel.0);
        out.put_u64(self.extent.first_seq);
        out.put_u64(self.extent.last_seq);
        out.put_u64(self.extent.prev_version);
        out.put_u64(self.tail);
        out.put_u32(self.tail_len);
    }

    /// `None` if the entry contradicts itself.
    pub fn decode(bytes: &[u8]) -> Option<Entry> {
        let mut r = Reader::new(bytes);
        let channel = ChannelId(r.u32()?);
        let extent = Extent { first_seq: r.u64()?, last_seq: r.u64()?, prev_version: r.u64()? };
        let entry = Entry { channel, extent, tail: r.u64()?, tail_len: r.u32()? };
        let sane = 1 <= extent.first_seq && extent.first_seq <= extent.last_seq && entry.tail_len <= MAX_RAW;
        sane.then_some(entry)
    }
}

/// The footer. The blocks begin just behind the file's header, the directory ends with the content.
#[derive(Clone, Copy, Debug)]
pub struct Footer {
    /// The offset of the tails, and so the end of the blocks.
    pub tails: u64,
    /// The offset of the block index.
    pub index: u64,
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
        for offset in [self.tails, self.index, self.directory] {
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
        if let Some(version) = version.filter(|version| *version > VERSION) {
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
            directory: r.u64()?,
            blocks: r.u64()?,
            channels: r.u64()?,
            messages: r.u64()?,
            versions: (r.u64()?, r.u64()?),
        };
        (r.is_empty() && head == (VERSION, 0)).then_some(footer)
    }

    /// Whether the sections follow each other and fill the content exactly.
    fn fits(&self, content_end: u64) -> bool {
        let after = |offset: u64, count: u64, len: usize| offset.checked_add(count.checked_mul(len as u64)?);
        HEADER as u64 <= self.tails
            && self.tails <= self.index
            && after(self.index, self.blocks, Handle::LEN) == Some(self.directory)
            && after(self.directory, self.channels, Entry::LEN) == Some(content_end)
            && self.versions.0 <= self.versions.1
    }
}
