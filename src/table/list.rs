//! A sorted list of `(u32, u32) -> value`, in blocks. Rows and members are such lists.
//!
//! ```text
//! blocks   of up to 16 entries, each:
//!   lead   varint   4 * (step of the first half of the key) + tag of the value, 0 to 3
//!   minor  varint   the second half of the key; as a difference where the step is 0
//!   value           see `value`
//! index    24 B a block: the key of its first entry u32 u32, its offset from the section's start u64, the newest
//!          version in it u64
//! ```
//!
//! Invariants: keys strictly ascend, through blocks too. The first entry's differences are to the key in the index, and
//! so they are zero. Values may lean on their block's newest version, which makes versions short.

use std::marker::PhantomData;

use super::output::Output;
use crate::codec::{Put, Reader};
use crate::error::{Error, Result};
use crate::sealed::Sealed;

/// What a list is sorted by.
pub type Key = (u32, u32);

/// How many entries a block has at most. A look-up decodes half a block in every run, which is most of its cost; the index
/// takes 1.5 bytes an entry.
const BLOCK: usize = 16;
/// The length of an entry of the index.
const ENTRY: usize = 24;

/// What a list holds for a key.
pub trait Value: Copy + Default {
    /// Two bits that lie beside the key.
    fn tag(&self) -> u8;
    /// The version of the last change; 0 if the value has none.
    fn version(&self) -> u64;
    /// Appends the value. `newest` is the greatest version of its block.
    fn encode(&self, newest: u64, out: &mut Vec<u8>);
    /// Becomes what [`Value::encode`] wrote; `None` if nothing valid stands there. In place, because a look-up decodes
    /// many values that it does not want, and a row is too large to be handed about for nothing.
    fn decode(&mut self, tag: u8, newest: u64, r: &mut Reader<'_>) -> Option<()>;
}

/// Where a list lies in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    start: u64,
    /// The length of all blocks, and so the offset of the index from `start`.
    bytes: u64,
    blocks: u64,
    /// How many entries there are.
    pub entries: u64,
}

impl Place {
    /// Appends it to a footer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.bytes);
        out.put_u64(self.blocks);
        out.put_u64(self.entries);
    }

    /// Reads it from a footer, for a list that begins at `start`.
    pub fn decode(r: &mut Reader<'_>, start: u64) -> Option<Place> {
        let place = Place { start, bytes: r.u64()?, blocks: r.u64()?, entries: r.u64()? };
        (place.blocks <= place.entries && place.entries <= place.bytes).then_some(place)
    }

    /// The offset just behind the list, unless that is beyond any file.
    pub fn end(&self) -> Option<u64> {
        self.start.checked_add(self.bytes)?.checked_add(self.blocks.checked_mul(ENTRY as u64)?)
    }
}

/// Writes a list, entry by entry.
pub struct ListWriter<V> {
    pending: Vec<(Key, V)>,
    block: Vec<u8>,
    index: Vec<u8>,
    bytes: u64,
    entries: u64,
    last: Option<Key>,
}

impl<V: Value> ListWriter<V> {
    /// An empty list.
    pub fn new() -> Self {
        ListWriter {
            pending: Vec::with_capacity(BLOCK),
            block: Vec::new(),
            index: Vec::new(),
            bytes: 0,
            entries: 0,
            last: None,
        }
    }

    /// Appends an entry, whose key must be greater than the last one's.
    pub fn push(&mut self, out: &mut Output<'_>, key: Key, value: V) -> Result<()> {
        if self.last >= Some(key) {
            return Err(Error::invalid("a key of a run is out of order"));
        }
        self.last = Some(key);
        self.entries += 1;
        self.pending.push((key, value));
        if self.pending.len() == BLOCK { self.write_block(out) } else { Ok(()) }
    }

    fn write_block(&mut self, out: &mut Output<'_>) -> Result<()> {
        let Some(&(first, _)) = self.pending.first() else { return Ok(()) };
        let newest = self.pending.iter().map(|(_, value)| value.version()).max().unwrap_or(0);
        self.index.put_u32(first.0);
        self.index.put_u32(first.1);
        self.index.put_u64(self.bytes);
        self.index.put_u64(newest);
        let mut last = first;
        for (key, value) in self.pending.drain(..) {
            let step = key.0 - last.0;
            let minor = if step == 0 { key.1 - last.1 } else { key.1 };
            self.block.put_varint((u64::from(step) << 2) | u64::from(value.tag()));
            self.block.put_varint(u64::from(minor));
            value.encode(newest, &mut self.block);
            last = key;
        }
        self.bytes += self.block.len() as u64;
        out.write(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Writes the last block and the index.
    pub fn finish(&mut self, out: &mut Output<'_>) -> Result<Place> {
        self.write_block(out)?;
        let index = std::mem::take(&mut self.index);
        let start = out.position() - self.bytes;
        out.write(&index)?;
        Ok(Place { start, bytes: self.bytes, blocks: (index.len() / ENTRY) as u64, entries: self.entries })
    }
}

/// An entry of the index.
struct Block {
    first: Key,
    offset: u64,
    newest: u64,
}

/// Reads a list.
pub struct List<'a, V> {
    file: &'a Sealed,
    place: Place,
    value: PhantomData<V>,
}

impl<'a, V: Value> List<'a, V> {
    /// The list at `place`, which must lie within the file's content.
    pub fn new(file: &'a Sealed, place: Place) -> Self {
        List { file, place, value: PhantomData }
    }

    /// The value of a key.
    pub fn get(self, key: Key) -> Result<Option<V>> {
        Ok(self.range(key, key, 0).next()?.map(|(_, value)| value))
    }

    /// The entries from `from` to `to`, both included, with a version above `newer_than`; with 0, all.
    pub fn range(self, from: Key, to: Key, newer_than: u64) -> Cursor<'a, V> {
        let none = Entered { reader: Reader::new(&[]), offset: 0, newest: 0, first: None };
        Cursor { list: self, from, to, newer_than, next: 0, block: none, last: None, value: V::default() }
    }

    /// All entries.
    pub fn all(self) -> Cursor<'a, V> {
        self.range((0, 0), (u32::MAX, u32::MAX), 0)
    }

    fn index(&self, block: u64) -> Result<Block> {
        let offset = self.place.start + self.place.bytes + block * ENTRY as u64;
        let mut r = Reader::new(self.file.bytes(offset, ENTRY)?);
        let mut decode = || {
            let (first, offset) = ((r.u32()?, r.u32()?), r.u64()?);
            Some(Block { first, offset, newest: r.u64()? })
        };
        decode().ok_or_else(|| self.file.corrupt(offset, "short index"))
    }

    /// The last block from `low` on that begins at or before `key`; `low` if there is none. It gallops by growing steps, the
    /// first of which is `step`: 1 if what is sought is near, the number of blocks if it may be anywhere.
    fn locate(&self, mut low: u64, mut step: u64, key: Key) -> Result<u64> {
        while low + step < self.place.blocks && self.index(low + step)?.first <= key {
            low += step;
            step *= 2;
        }
        let mut high = self.place.blocks.min(low + step);
        while high > low + 1 {
            let middle = low + (high - low) / 2;
            match self.index(middle)?.first <= key {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// A block's offset in the file and its bytes.
    fn bytes(&self, number: u64, block: &Block) -> Result<(u64, &'a [u8])> {
        let last = number + 1 == self.place.blocks;
        let end = if last { self.place.bytes } else { self.index(number + 1)?.offset };
        let len = end.checked_sub(block.offset).filter(|_| end <= self.place.bytes);
        let len = len.and_then(|len| usize::try_from(len).ok());
        let Some(len) = len else {
            let at = self.place.start + self.place.bytes + number * ENTRY as u64;
            return Err(self.file.corrupt(at, "the offsets of blocks contradict each other"));
        };
        let offset = self.place.start + block.offset;
        Ok((offset, self.file.bytes(offset, len)?))
    }
}

/// The block that a cursor is in.
struct Entered<'a> {
    /// What is left of it.
    reader: Reader<'a>,
    /// Where it begins in the file.
    offset: u64,
    newest: u64,
    /// The key of its first entry, until that was read.
    first: Option<Key>,
}

/// Walks over a range of a list. Keys strictly ascend, whatever the file holds.
pub struct Cursor<'a, V> {
    list: List<'a, V>,
    from: Key,
    to: Key,
    newer_than: u64,
    /// The block to enter when the present one is used up.
    next: u64,
    block: Entered<'a>,
    /// The key that was decoded last.
    last: Option<Key>,
    /// Its value.
    value: V,
}

impl<V: Value> Cursor<'_, V> {
    /// The next entry.
    pub fn next(&mut self) -> Result<Option<(Key, V)>> {
        loop {
            if self.block.reader.is_empty() {
                if !self.enter()? {
                    return Ok(None);
                }
                continue;
            }
            let key = self.decode()?;
            if key > self.to {
                self.end();
            } else if key >= self.from && (self.newer_than == 0 || self.value.version() > self.newer_than) {
                return Ok(Some((key, self.value)));
            }
        }
    }

    /// Goes forward to the first entry at or after `key`. Going back does nothing.
    pub fn seek(&mut self, key: Key) -> Result<()> {
        self.from = self.from.max(key);
        if self.next < self.list.place.blocks && self.list.index(self.next)?.first <= self.from {
            self.block.reader = Reader::new(&[]);
        }
        Ok(())
    }

    /// Enters the next block that may hold an entry of the range. False if there is none.
    fn enter(&mut self) -> Result<bool> {
        let step = if self.last.is_none() { self.list.place.blocks } else { 1 };
        self.next = self.list.locate(self.next, step, self.from)?;
        while self.next < self.list.place.blocks {
            let block = self.list.index(self.next)?;
            if block.first > self.to {
                break;
            }
            let number = self.next;
            self.next += 1;
            if self.newer_than == 0 || block.newest > self.newer_than {
                let (offset, bytes) = self.list.bytes(number, &block)?;
                let (reader, first) = (Reader::new(bytes), Some(block.first));
                self.block = Entered { reader, offset, newest: block.newest, first };
                return Ok(true);
            }
        }
        self.end();
        Ok(false)
    }

    fn decode(&mut self) -> Result<Key> {
        let at = self.block.offset + self.block.reader.position() as u64;
        let entry = self.try_decode();
        if entry.is_none() {
            self.end();
        }
        entry.ok_or_else(|| self.list.file.corrupt(at, "no valid entry, or one out of order"))
    }

    fn try_decode(&mut self) -> Option<Key> {
        let r = &mut self.block.reader;
        let lead = r.varint()?;
        let (step, tag) = (u32::try_from(lead >> 2).ok()?, (lead & 3) as u8);
        let minor = r.varint32()?;
        let base = self.block.first.or(self.last)?;
        let key = match step {
            0 => (base.0, base.1.checked_add(minor)?),
            _ => (base.0.checked_add(step)?, minor),
        };
        self.value.decode(tag, self.block.newest, r)?;
        let placed = self.block.first.take().is_none_or(|first| first == key) && Some(key) > self.last;
        self.last = Some(key);
        placed.then_some(key)
    }

    /// Leaves nothing to read.
    fn end(&mut self) {
        self.block.reader = Reader::new(&[]);
        self.next = self.list.place.blocks;
    }
}
