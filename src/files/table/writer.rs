//! Writes a section, entry by entry. It holds the entries of one block, whose newest version comes before them all, and
//! the index.

use super::filter::FilterWriter;
use super::output::Output;
use super::section::{BLOCK, MAX_TAG, RowBlock, RunEntry, SectionPlace};
use crate::error::{Error, Result};
use crate::model::codec::Put;
use crate::model::key::Key;

/// A section in the making.
pub struct SectionWriter {
    /// Counts what was written. Its start is known at the end.
    place: SectionPlace,
    pending: Vec<PendingEntry>,
    /// The images of `pending`, one after another.
    images: Vec<u8>,
    block: Vec<u8>,
    index: Vec<u8>,
    last: Option<Key>,
    filter: Option<FilterWriter>,
}

/// An entry of the present block.
struct PendingEntry {
    key: Key,
    tag: u8,
    version: u64,
    /// The length of its image.
    len: usize,
}

impl SectionWriter {
    /// An empty section of a table. In a wide one keys have three parts.
    pub fn new(table: u8, wide: bool) -> Self {
        SectionWriter {
            place: SectionPlace { table, wide, ..SectionPlace::NONE },
            pending: Vec::with_capacity(BLOCK),
            images: Vec::new(),
            block: Vec::new(),
            index: Vec::new(),
            last: None,
            filter: None,
        }
    }

    /// Gives the section a filter. Before the first entry.
    pub fn with_filter(&mut self) {
        self.filter = Some(FilterWriter::default());
    }

    /// Appends an entry, whose key must be greater than the last one's.
    pub fn push(&mut self, out: &mut Output<'_>, entry: RunEntry<'_>) -> Result<()> {
        let RunEntry { key, tag, version, image } = entry;
        if self.last >= Some(key) {
            return Err(Error::invalid("a key of a run is out of order"));
        }
        if tag > MAX_TAG || (!self.place.wide && (key.c > 0 || key.b > u32::MAX.into())) {
            return Err(Error::invalid("a tag or a key does not fit its section"));
        }
        self.last = Some(key);
        if let Some(filter) = &mut self.filter {
            filter.add(key);
        }
        self.place.entries += 1;
        self.pending.push(PendingEntry { key, tag, version, len: image.len() });
        self.images.put(image);
        if self.pending.len() == BLOCK { self.write_block(out) } else { Ok(()) }
    }

    fn write_block(&mut self, out: &mut Output<'_>) -> Result<()> {
        let Some(first) = self.pending.first().map(|entry| entry.key) else { return Ok(()) };
        let newest = self.pending.iter().map(|entry| entry.version).max().unwrap_or(0);
        RowBlock { first, offset: self.place.bytes, newest }.encode(self.place.wide, &mut self.index);
        let (mut last, mut images) = (first, &self.images[..]);
        for PendingEntry { key, tag, version, len } in self.pending.drain(..) {
            put_key(&mut self.block, self.place.wide, last, key, tag);
            self.block.put_varint(newest - version);
            self.block.put_varint(len as u64);
            let (image, rest) = images.split_at(len);
            self.block.put(image);
            (last, images) = (key, rest);
        }
        self.place.blocks += 1;
        self.place.bytes += self.block.len() as u64;
        self.place.newest = self.place.newest.max(newest);
        out.write(&self.block)?;
        self.images.clear();
        self.block.clear();
        Ok(())
    }

    /// Writes the last block and the index. `None` if there are no entries: a run has no empty sections.
    pub fn finish(mut self, out: &mut Output<'_>) -> Result<Option<SectionPlace>> {
        self.write_block(out)?;
        let start = out.position() - self.place.bytes;
        out.write(&self.index)?;
        let filter = self.filter.map(FilterWriter::finish).unwrap_or_default();
        out.write(&filter)?;
        self.place.filter = filter.len() as u64;
        Ok((self.place.entries > 0).then_some(SectionPlace { start, ..self.place }))
    }
}

/// Appends a tag and a key, as what differs from the key before it.
fn put_key(out: &mut Vec<u8>, wide: bool, last: Key, key: Key, tag: u8) {
    let step = key.a - last.a;
    let b = if step == 0 { key.b - last.b } else { key.b };
    out.put_varint((u64::from(step) << 2) | u64::from(tag));
    out.put_varint(b);
    if wide {
        out.put_varint(if step == 0 && b == 0 { key.c - last.c } else { key.c });
    }
}
