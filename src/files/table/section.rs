//! A section of a run: a sorted list of entries, in blocks, with an index.
//!
//! ```text
//! blocks   of up to 16 entries, each:
//!   lead    varint   4 * (step of the key's first part) + tag, 0 to 3
//!   b       varint   the second part; as a difference where the step is 0
//!   c       varint   only in a wide section: the third part; as a difference where the first two are the same
//!   version varint   the block's newest version - version
//!   len     varint   of the image
//!   image            opaque here
//! index    24 B a block, 36 B in a wide section: the key of its first entry u32 u32, in a wide section u32 u64 u64; its
//!          offset from the section's start u64; the newest version in it u64
//! filter   in a filtered section, see `filter`
//! ```
//!
//! Invariants: keys strictly ascend, through blocks too; in a section that is not wide second parts have 32 bits and third parts are 0. The first
//! entry's differences are to the key in the index, and so all are zero; no other entry's are. No version is above its
//! block's newest, nor that above the section's, which the footer holds: so what is skipped by them is not newer.

use super::cursor::Cursor;
use super::filter::{PART, RunFilter};
use crate::error::{Error, Result};
use crate::files::sealed::Sealed;
use crate::model::codec::{Put, Reader};
use crate::model::key::Key;

/// How many entries a block has at most. A look-up decodes half a block in every run, which is most of its cost; the index
/// takes 1.5 bytes an entry.
pub const BLOCK: usize = 16;
/// The greatest tag.
pub const MAX_TAG: u8 = 3;
/// The least length of an entry.
const LEAST: u64 = 4;
/// The flag of a wide section.
const WIDE: u8 = 1;
/// The flag of a section with a filter.
const FILTERED: u8 = 2;

/// What a section holds for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEntry<'a> {
    /// Its key.
    pub key: Key,
    /// Two bits beside the image. One of them may be [`TOMBSTONE`].
    pub tag: u8,
    /// The version of the last change.
    pub version: u64,
    /// The bytes of the value.
    pub image: &'a [u8],
}

/// Where a section lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionPlace {
    /// The table's number.
    pub table: u8,
    /// Whether keys have three parts, the second one of 64 bits.
    pub wide: bool,
    /// The offset in the file of the first block.
    pub start: u64,
    /// The length of all blocks, and so the offset of the index from `start`.
    pub bytes: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// How many entries there are.
    pub entries: u64,
    /// The greatest version.
    pub newest: u64,
    /// The length of the filter after the index, or 0 if there is none.
    pub filter: u64,
}

impl SectionPlace {
    /// The place of a section that a run does not have.
    pub const NONE: SectionPlace = SectionPlace {
        table: 0,
        wide: false,
        start: 0,
        bytes: 0,
        blocks: 0,
        entries: 0,
        newest: 0,
        filter: 0,
    };

    /// Appends it to a footer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.table);
        out.put_u8((u8::from(self.wide) * WIDE) | (u8::from(self.filter > 0) * FILTERED));
        out.put_u64(self.bytes);
        out.put_u64(self.blocks);
        out.put_u64(self.entries);
        out.put_u64(self.newest);
        if self.filter > 0 {
            out.put_u64(self.filter);
        }
    }

    /// Reads it from a footer, for a section that begins at `start`.
    pub fn decode(r: &mut Reader<'_>, start: u64) -> Option<SectionPlace> {
        let (table, flags) = (r.u8()?, r.u8()?);
        let (bytes, blocks, entries, newest) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let filter = if flags & FILTERED == 0 { 0 } else { r.u64().filter(|len| *len > 0)? };
        let filled = entries > 0 && entries <= bytes / LEAST;
        let known = flags & !(WIDE | FILTERED) == 0;
        let good = known && filled && (entries.div_ceil(BLOCK as u64)..=entries).contains(&blocks);
        let wide = flags & WIDE > 0;
        good.then_some(SectionPlace { table, wide, start, bytes, blocks, entries, newest, filter })
    }

    /// The offset just after the section, unless that is beyond any file.
    pub fn end(&self) -> Option<u64> {
        let index = self.blocks.checked_mul(SectionPlace::index_len(self.wide) as u64)?;
        self.start.checked_add(self.bytes)?.checked_add(index)?.checked_add(self.filter)
    }

    /// The offset in the file of the filter.
    fn filter_at(&self) -> u64 {
        self.index_at(self.blocks)
    }

    /// The length of an entry of the index.
    const fn index_len(wide: bool) -> usize {
        if wide { 36 } else { 24 }
    }

    /// The offset in the file of a block's entry in the index.
    fn index_at(&self, block: u64) -> u64 {
        self.start + self.bytes + block * SectionPlace::index_len(self.wide) as u64
    }
}

/// An entry of the index.
#[derive(Clone, Copy, Debug)]
pub struct RowBlock {
    /// The key of the block's first entry.
    pub first: Key,
    /// Where it begins, from the section's start.
    pub offset: u64,
    /// The newest version in it.
    pub newest: u64,
}

impl RowBlock {
    /// Appends it to an index.
    pub fn encode(&self, wide: bool, out: &mut Vec<u8>) {
        out.put_u32(self.first.a);
        match wide {
            true => {
                out.put_u64(self.first.b);
                out.put_u64(self.first.c);
            }
            false => out.put_u32(self.first.b as u32),
        }
        out.put_u64(self.offset);
        out.put_u64(self.newest);
    }

    fn decode(wide: bool, r: &mut Reader<'_>) -> Option<RowBlock> {
        Some(RowBlock { first: RowBlock::first(wide, r)?, offset: r.u64()?, newest: r.u64()? })
    }

    #[inline]
    fn first(wide: bool, r: &mut Reader<'_>) -> Option<Key> {
        let a = r.u32()?;
        let (b, c) = if wide { (r.u64()?, r.u64()?) } else { (r.u32()?.into(), 0) };
        Some(Key { a, b, c })
    }
}

/// Reads a section of a run.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    file: &'a Sealed,
    place: &'a SectionPlace,
    filter: Option<&'a RunFilter>,
}

impl<'a> Section<'a> {
    /// The section at `place`, which must lie within the file's content.
    pub(super) fn new(file: &'a Sealed, place: &'a SectionPlace, filter: Option<&'a RunFilter>) -> Self {
        Section { file, place, filter }
    }

    /// Opens the filter of the section, if it has one.
    pub(super) fn open_filter(self, memory: u64) -> Result<Option<RunFilter>> {
        if self.place.filter == 0 {
            return Ok(None);
        }
        // All blocks are full but the last.
        let blocks = (PART / BLOCK) as u64;
        let first = |part: u64| Ok(self.index(part * blocks)?.first);
        let parts = self.place.blocks.div_ceil(blocks);
        let place = (self.place.filter_at(), self.place.filter);
        RunFilter::open(self.file, place, parts, first, memory).map(Some)
    }

    /// The entry of a key. In a filtered section a key that is not there is looked for in one of 65,536 cases.
    pub fn get(self, key: Key) -> Result<Option<RunEntry<'a>>> {
        if self.may_hold(key)? { self.range(key, key, 0).next() } else { Ok(None) }
    }

    /// Whether there may be an entry of a key, as far as the filter tells.
    pub(super) fn may_hold(self, key: Key) -> Result<bool> {
        self.filter.map_or(Ok(true), |filter| filter.may_hold(self.file, key))
    }

    /// The entries from `from` to `to`, both included, with a version above `newer_than`; with 0, all. Blocks that hold
    /// none are skipped unread.
    pub fn range(self, from: Key, to: Key, newer_than: u64) -> Cursor<'a> {
        Cursor::new(self, from, to, newer_than)
    }

    /// All entries.
    pub fn all(self) -> Cursor<'a> {
        self.range(Key::default(), Key::MAX, 0)
    }

    /// How many entries there are.
    pub fn entries(self) -> u64 {
        self.place.entries
    }

    /// The greatest version; 0 if there are no entries.
    pub fn newest(self) -> u64 {
        self.place.newest
    }

    /// An error that names the section's file and place.
    pub fn corrupt(self, what: impl Into<String>) -> Error {
        self.corrupt_at(self.place.start, what)
    }

    /// An error that names an offset in the file.
    pub(super) fn corrupt_at(self, offset: u64, what: impl Into<String>) -> Error {
        self.file.corrupt(offset, what)
    }

    /// Whether keys have three parts.
    pub fn is_wide(self) -> bool {
        self.place.wide
    }

    /// Whether it has a filter.
    pub fn is_filtered(self) -> bool {
        self.place.filter > 0
    }

    /// How many blocks there are.
    pub(super) fn blocks(self) -> u64 {
        self.place.blocks
    }

    /// An entry of the index.
    pub(super) fn index(self, block: u64) -> Result<RowBlock> {
        let at = self.place.index_at(block);
        let bytes = self.file.bytes(at, SectionPlace::index_len(self.place.wide))?;
        let block = RowBlock::decode(self.place.wide, &mut Reader::new(bytes));
        let block = block.filter(|block| block.newest <= self.place.newest);
        block.ok_or_else(|| self.file.corrupt(at, "a block that is newer than its section"))
    }

    /// Whether a block begins at or before `key`. A search asks this of many blocks, and of one for the rest.
    #[inline]
    fn begins_by(self, block: u64, key: &Key) -> Result<bool> {
        let at = self.place.index_at(block);
        let bytes = self.file.bytes(at, SectionPlace::index_len(self.place.wide))?;
        Ok(RowBlock::first(self.place.wide, &mut Reader::new(bytes)).is_some_and(|first| first <= *key))
    }

    /// The last block from `low` on that begins at or before `key`; `low` if there is none. It gallops by growing steps, the
    /// first of which is `step`: 1 if what is sought is near, the number of blocks if it may be anywhere.
    pub(super) fn locate(self, mut low: u64, mut step: u64, key: Key) -> Result<u64> {
        while low + step < self.place.blocks && self.begins_by(low + step, &key)? {
            low += step;
            step *= 2;
        }
        let mut high = self.place.blocks.min(low + step);
        while high > low + 1 {
            let middle = low + (high - low) / 2;
            match self.begins_by(middle, &key)? {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// The offset in the file and the bytes of block `number`. `end` is where the next one begins, if there is one.
    pub(super) fn bytes(self, number: u64, block: &RowBlock, end: Option<u64>) -> Result<(u64, &'a [u8])> {
        let end = end.unwrap_or(self.place.bytes);
        let len = end.checked_sub(block.offset).filter(|len| *len > 0 && end <= self.place.bytes);
        let Some(len) = len.and_then(|len| usize::try_from(len).ok()) else {
            let at = self.place.index_at(number);
            return Err(self.file.corrupt(at, "the offsets of blocks contradict each other"));
        };
        let offset = self.place.start + block.offset;
        Ok((offset, self.file.bytes(offset, len)?))
    }
}
