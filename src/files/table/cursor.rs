//! Walks over a range of a section. It is the inner loop of most reads: it allocates nothing, and an entry's image is a
//! part of the file's map.
//!
//! Invariant: keys strictly ascend, whatever the file holds. After an error there is nothing more.

use super::{RunEntry, Section};
use crate::error::{Error, Result};
use crate::model::codec::Reader;
use crate::model::key::Key;

/// Walks over a range of a section's entries.
#[derive(Debug)]
pub struct Cursor<'a> {
    section: Section<'a>,
    wide: bool,
    from: Key,
    to: Key,
    newer_than: u64,
    /// The block to enter when the present one is used up.
    next: u64,
    /// Where that block begins, if there are both it and a present one.
    next_first: Key,
    /// What is left of the present block.
    reader: Reader<'a>,
    /// Where the present block begins in the file.
    offset: u64,
    /// The newest version in it.
    newest: u64,
    /// Whether its first entry is still to be read.
    fresh: bool,
    /// Whether there was a block yet.
    begun: bool,
    /// The block that could not be read, if the walk ended by that.
    failed: u64,
    /// The key that was read last; before a block's first entry, that entry's key.
    last: Key,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(section: Section<'a>, from: Key, to: Key, newer_than: u64) -> Self {
        let nothing_newer = newer_than > 0 && section.newest() <= newer_than;
        Cursor {
            section,
            wide: section.is_wide(),
            from,
            to,
            newer_than,
            next: if nothing_newer { section.blocks() } else { 0 },
            next_first: Key::default(),
            reader: Reader::new(&[]),
            offset: 0,
            newest: 0,
            fresh: false,
            begun: false,
            failed: section.blocks(),
            last: Key::default(),
        }
    }

    /// The next entry.
    #[inline]
    pub fn next(&mut self) -> Result<Option<RunEntry<'a>>> {
        loop {
            if self.reader.is_empty() && !self.enter()? {
                return Ok(None);
            }
            let at = self.reader.position();
            let Some(entry) = self.decode() else { return Err(self.fail(at)) };
            if entry.key > self.to {
                self.end();
                return Ok(None);
            }
            if entry.key >= self.from && (self.newer_than == 0 || entry.version > self.newer_than) {
                return Ok(Some(entry));
            }
        }
    }

    /// Goes forward to the first entry at or after `key`, past whole blocks where it can. Going back does nothing.
    pub fn seek(&mut self, key: Key) -> Result<()> {
        self.from = self.from.max(key);
        if self.next < self.section.blocks() && self.next_first <= self.from {
            self.reader = Reader::new(&[]);
        }
        Ok(())
    }

    /// Goes on behind the block that could not be read, after an error of a walk over all entries. Returns the greatest key that
    /// was read before, and the least that may come.
    pub fn pass(&mut self) -> (Key, Key) {
        let before = self.last;
        self.next = self.failed.saturating_add(1).min(self.section.blocks());
        let next = if self.next < self.section.blocks() { self.section.index(self.next).ok() } else { None };
        (before, next.map_or(Key::MAX, |block| block.first))
    }

    /// An error that names the file and the block of the entry that came last.
    pub fn corrupt(&self, what: impl Into<String>) -> Error {
        self.section.corrupt_at(self.offset, what)
    }

    /// Enters the next block that may hold an entry of the range. False if there is none.
    fn enter(&mut self) -> Result<bool> {
        let number = self.next;
        let entered = self.try_enter();
        if !matches!(entered, Ok(true)) {
            self.failed = number;
            self.end();
        }
        entered
    }

    fn try_enter(&mut self) -> Result<bool> {
        let blocks = self.section.blocks();
        let step = if self.begun { 1 } else { blocks };
        self.next = self.section.locate(self.next, step, self.from)?;
        while self.next < blocks {
            let number = self.next;
            let block = self.section.index(number)?;
            if block.first > self.to {
                break;
            }
            self.next += 1;
            if self.newer_than > 0 && block.newest <= self.newer_than {
                continue;
            }
            let following = if self.next < blocks { Some(self.section.index(self.next)?) } else { None };
            let end = following.map(|following| following.offset);
            let (offset, bytes) = self.section.bytes(number, &block, end)?;
            if self.begun && block.first <= self.last {
                return Err(self.section.corrupt_at(offset, "a block out of order"));
            }
            self.next_first = following.map_or(Key::MAX, |following| following.first);
            (self.reader, self.offset, self.newest) = (Reader::new(bytes), offset, block.newest);
            (self.fresh, self.begun, self.last) = (true, true, block.first);
            return Ok(true);
        }
        Ok(false)
    }

    /// The next entry of the present block; `None` if nothing valid stands there.
    #[inline]
    fn decode(&mut self) -> Option<RunEntry<'a>> {
        let r = &mut self.reader;
        let lead = r.varint()?;
        let (step, tag) = (u32::try_from(lead >> 2).ok()?, (lead & 3) as u8);
        let (b, c) = if self.wide { (r.varint()?, r.varint()?) } else { (r.varint32()?.into(), 0) };
        let last = self.last;
        let key = match (step, b) {
            (0, 0) if self.fresh != (c == 0) => return None,
            (0, 0) => Key { c: last.c.checked_add(c)?, ..last },
            _ if self.fresh => return None,
            (0, _) => Key { a: last.a, b: last.b.checked_add(b)?, c },
            _ => Key { a: last.a.checked_add(step)?, b, c },
        };
        if !self.wide && key.b > u32::MAX.into() {
            return None;
        }
        let version = self.newest.checked_sub(r.varint()?)?;
        let len = usize::try_from(r.varint()?).ok()?;
        let image = r.bytes(len)?;
        (self.fresh, self.last) = (false, key);
        Some(RunEntry { key, tag, version, image })
    }

    /// Ends the walk; what stands at `at` of the present block is no entry.
    #[cold]
    fn fail(&mut self, at: usize) -> Error {
        self.failed = self.next.saturating_sub(1);
        self.end();
        let offset = self.offset + at as u64;
        self.section.corrupt_at(offset, "no valid entry, or one out of order")
    }

    /// Leaves nothing to read.
    fn end(&mut self) {
        self.reader = Reader::new(&[]);
        self.next = self.section.blocks();
    }
}
