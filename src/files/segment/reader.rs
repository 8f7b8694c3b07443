//! Reads a message segment: the last record of a channel, or a range of its records.
//!
//! Invariants: what is handed out was checked, by its page's checksum and by its own form, and lies where index and
//! directory say. Lookups by seq search, as the seqs of a channel may have a gap. No offset, length or count from the file
//! is followed before it was checked against its section, so that a hostile file costs an error and no more.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block::decompress_into;

use super::block::Block;
use super::cache::BlockCache;
use super::directory::{Entry, EntryGroup, MAX_GROUP, Tail};
use super::format::{EVER, Extent, Footer, GROUP, GUIDE, Handle, Key, MAX_RAW};
use crate::env::Dir;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::sealed::{Kind, Sealed, StoreId};
use crate::model::codec::Reader;
use crate::model::ids::ChannelId;

/// Greater than every key: ids stay below [`crate::model::ids::MAX_IDS`].
const END: Key = (ChannelId(u32::MAX), u64::MAX);

/// What is called with each record and bytes of which it borrows a part, and whether it wants more.
pub type Visit<'a> = dyn FnMut(&Bytes, &Record<'_>) -> Result<ControlFlow<()>> + 'a;

/// An open message segment.
#[derive(Debug)]
pub struct Segment {
    pub(super) sealed: Sealed,
    pub(super) footer: Footer,
    cache: Arc<BlockCache>,
}

impl Segment {
    /// Opens segment `id`, which the manifest says is `len` bytes long.
    pub fn open(dir: &dyn Dir, store: StoreId, id: u64, len: u64, cache: Arc<BlockCache>) -> Result<Segment> {
        Segment::new(Sealed::open(dir, Kind::Segment, store, id, len)?, cache)
    }

    /// Reads a sealed file as a segment.
    pub fn new(sealed: Sealed, cache: Arc<BlockCache>) -> Result<Segment> {
        let footer = Footer::read(&sealed)?;
        Ok(Segment { sealed, footer, cache })
    }

    /// An error that names this segment's file.
    pub fn corrupt(&self, what: impl Into<String>) -> Error {
        self.sealed.corrupt(0, what)
    }

    /// An error that names what this segment's file tells of channels.
    pub fn corrupt_entries(&self, what: impl Into<String>) -> Error {
        self.sealed.corrupt(self.footer.entries, what)
    }

    /// The file's id.
    pub fn id(&self) -> u64 {
        self.sealed.id()
    }

    /// How many messages it holds.
    pub fn messages(&self) -> u64 {
        self.footer.messages
    }

    /// The first and the last version of the range that it covers.
    pub fn versions(&self) -> (u64, u64) {
        self.footer.versions
    }

    /// The links and the bounds of what it holds of a channel.
    pub fn extent(&self, channel: ChannelId) -> Result<Option<Extent>> {
        Ok(self.find(channel)?.map(|entry| entry.extent))
    }

    /// How many records of a channel it holds. Reads the blocks alone that the channel shares with others.
    pub fn count(&self, channel: ChannelId) -> Result<u64> {
        let Some(entry) = self.find(channel)? else { return Ok(0) };
        let mut count = u64::from(entry.tail.is_some());
        let Some((first, last)) = entry.blocks() else { return Ok(count) };
        let (first, last) = ((channel, first), (channel, last));
        for n in self.blocks(first, last)? {
            count += match self.lies_within(n, first, last)? {
                true => u64::from(self.handle(n)?.summary.records),
                false => self.load(n)?.range(first, last).len() as u64,
            };
        }
        Ok(count)
    }

    /// Visits the last record of a channel, if there is one. If it is a tail, nothing is decompressed.
    pub fn last(&self, channel: ChannelId, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        let Some(entry) = self.find(channel)? else { return Ok(ControlFlow::Continue(())) };
        match self.tail(&entry)? {
            Some(tail) => visit(self.sealed.whole(), &tail),
            None => self.packed((channel, entry.extent.last_seq), visit),
        }
    }

    /// Visits a record that must lie in a block.
    fn packed(&self, key: Key, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        for n in self.blocks(key, key)? {
            let block = self.cached(n)?;
            if let Some(at) = block.range(key, key).next() {
                return visit(block.bytes(), &self.record(&block, at)?);
            }
        }
        Err(self.sealed.corrupt(self.footer.index, "a channel's last record is missing"))
    }

    /// A record of a block.
    #[inline]
    fn record<'b>(&self, block: &'b Block, at: usize) -> Result<Record<'b>> {
        Record::decode(block.encoded(at)).ok_or_else(|| self.corrupt("a record does not decode"))
    }

    /// Visits the records of a channel with a seq in `seqs`, ascending or descending. They lie in the map, or in a block of
    /// the cache. Blocks without a timestamp in `times` are skipped; others, and the channel's last record, are shown with all
    /// that they hold. Tells whether `visit` broke off.
    pub fn read(
        &self,
        entry: &Entry,
        seqs: &RangeInclusive<u64>,
        times: &RangeInclusive<i64>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let mut tail = if seqs.contains(&entry.extent.last_seq) { self.tail(entry)? } else { None };
        if reverse
            && let Some(tail) = tail.take()
            && visit(self.sealed.whole(), &tail)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        if self.scan_blocks(entry, seqs, times, reverse, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        tail.map_or(Ok(ControlFlow::Continue(())), |tail| visit(self.sealed.whole(), &tail))
    }

    /// The part of a scan that lies in blocks, which is all but the channel's tail.
    fn scan_blocks(
        &self,
        entry: &Entry,
        seqs: &RangeInclusive<u64>,
        times: &RangeInclusive<i64>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let Some((first, last)) = entry.blocks() else { return Ok(ControlFlow::Continue(())) };
        let first = (entry.channel, first.max(*seqs.start()));
        let last = (entry.channel, last.min(*seqs.end()));
        if first > last {
            return Ok(ControlFlow::Continue(()));
        }
        let ever = *times == EVER;
        for n in ordered(self.blocks(first, last)?, reverse) {
            if !ever && !self.handle(n)?.summary.meets(times) {
                continue;
            }
            let block = self.cached(n)?;
            let records = block.range(first, last);
            for record in ordered(records.start as u64..records.end as u64, reverse) {
                if visit(block.bytes(), &self.record(&block, record as usize)?)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The blocks that may hold records with `first <= key <= last`. There is one that begins at `first` or before it, as
    /// callers look for no key before a channel's first.
    pub(super) fn blocks(&self, first: Key, last: Key) -> Result<Range<u64>> {
        let upto = |key| partition(self.footer.blocks, |n| Ok(self.first_key(n)? <= key));
        match upto(first)?.checked_sub(1) {
            Some(start) => Ok(start..upto(last)?),
            None => Err(self.sealed.corrupt(self.footer.index, "a channel begins before the first block")),
        }
    }

    fn cached(&self, n: u64) -> Result<Arc<Block>> {
        if let Some(block) = self.cache.get(self.id(), n) {
            return Ok(block);
        }
        let block = Arc::new(self.load(n)?);
        self.cache.insert(self.id(), n, block.clone());
        Ok(block)
    }

    /// Whether all records of block `n`, and a later one in another block, have keys from `first` to `last`.
    pub(super) fn lies_within(&self, n: u64, first: Key, last: Key) -> Result<bool> {
        if n + 1 >= self.footer.blocks {
            return Ok(false);
        }
        let (begin, end) = (self.first_key(n)?, self.first_key(n + 1)?);
        Ok(first <= begin && begin < end && end <= last)
    }

    /// Seqs that hold those of block `n`, all of whose records are of one channel, and which is not the last block.
    pub(super) fn seqs(&self, n: u64) -> Result<RangeInclusive<u64>> {
        let ((channel, first), (next, end)) = (self.first_key(n)?, self.first_key(n + 1)?);
        Ok(first..=if next == channel { end } else { u64::MAX })
    }

    /// The index's entry of block `n`, and its bytes as they are stored.
    pub(super) fn stored(&self, n: u64) -> Result<(Handle, &[u8])> {
        let (handle, _) = self.place(n)?;
        Ok((handle, self.sealed.bytes(handle.offset, handle.stored_len as usize)?))
    }

    /// The index's entry of block `n`, which lies where that says, and a key that is greater than all of the block's.
    fn place(&self, n: u64) -> Result<(Handle, Key)> {
        let handle = self.handle(n)?;
        let (key, offset) = match n + 1 {
            next if next < self.footer.blocks => self.handle(next).map(|next| (next.first, next.offset))?,
            _ => (END, self.footer.tails),
        };
        if handle.offset.checked_add(u64::from(handle.stored_len)) != Some(offset) {
            let what = "the block does not end where the next one begins";
            return Err(self.sealed.corrupt(handle.offset, what));
        }
        Ok((handle, key))
    }

    /// Reads block `n` and checks it against the index.
    pub(super) fn load(&self, n: u64) -> Result<Block> {
        let (handle, end) = self.place(n)?;
        let fault = |what: String| self.sealed.corrupt(handle.offset, what);
        let block = Block::parse(self.raw(&handle)?, handle.compressed())
            .map_err(|at| fault(format!("no record, or out of order, at byte {at} of the block")))?;
        let bounds = block.bounds().is_some_and(|(first, last)| first == handle.first && last < end);
        if !bounds || block.summary() != handle.summary {
            return Err(fault("the block's records contradict the index".into()));
        }
        Ok(block)
    }

    /// The raw bytes of a block.
    fn raw(&self, handle: &Handle) -> Result<Bytes> {
        let stored_len = handle.stored_len as usize;
        if !handle.compressed() {
            return self.sealed.slice(handle.offset, stored_len);
        }
        let stored = self.sealed.bytes(handle.offset, stored_len)?;
        let mut raw = vec![0; handle.raw_len as usize];
        match decompress_into(stored, &mut raw) {
            Ok(len) if len == raw.len() => Ok(raw.into()),
            _ => Err(self.sealed.corrupt(handle.offset, "the block does not decompress to its length")),
        }
    }

    /// The last record of a channel, if it is a tail: a part of the file's bytes.
    pub(super) fn tail(&self, entry: &Entry) -> Result<Option<Record<'_>>> {
        let Some(Tail { offset, len }) = entry.tail else { return Ok(None) };
        let bytes = self.sealed.bytes(offset, len as usize)?;
        let key = (entry.channel, entry.extent.last_seq);
        let good = |(record, len): &(Record<'_>, usize)| {
            *len == bytes.len() && (record.channel, record.mark.seq) == key
        };
        match Record::read(bytes).filter(good) {
            Some((record, _)) => Ok(Some(record)),
            None => Err(self.sealed.corrupt(offset, "not the channel's last record")),
        }
    }

    /// The last encoded record of a channel, if it is a tail.
    pub(super) fn tail_bytes(&self, entry: &Entry) -> Result<Option<Bytes>> {
        let tail = self.tail(entry)?.and(entry.tail);
        tail.map(|tail| self.sealed.slice(tail.offset, tail.len as usize)).transpose()
    }

    /// What it holds of a channel, and where.
    pub fn find(&self, channel: ChannelId) -> Result<Option<Entry>> {
        let upto = partition(self.footer.groups(), |n| Ok(self.guide(n)?.0 <= channel))?;
        let Some(n) = upto.checked_sub(1) else { return Ok(None) };
        let (offset, mut group) = self.group(n)?;
        for _ in 0..self.group_len(n) {
            let entry = group.entry().ok_or_else(|| self.bad_group(offset))?;
            if entry.channel >= channel {
                let found = Some(entry).filter(|entry| entry.channel == channel);
                return found.map(|entry| self.checked(entry)).transpose();
            }
        }
        Ok(None)
    }

    /// An entry, if it leads nowhere but where it may.
    pub(super) fn checked(&self, entry: Entry) -> Result<Entry> {
        if let Some(Tail { offset, len }) = entry.tail {
            let end = offset.checked_add(u64::from(len)).filter(|_| len <= MAX_RAW);
            if offset < self.footer.tails || end.is_none_or(|end| end > self.footer.index) {
                return Err(self.sealed.corrupt(offset, "a tail lies outside of the tails"));
            }
        }
        // Readers follow the links backwards from file to file: they must lead away from here.
        if entry.extent.chain.prev.version >= self.footer.versions.0 {
            let what =
                format!("channel {} goes on from a version that is not before the segment", entry.channel.0);
            return Err(self.corrupt_entries(what));
        }
        Ok(entry)
    }

    /// The entries of the directory's group `n`. Each is still to be checked.
    pub(super) fn entries(&self, n: u64) -> Result<Vec<Entry>> {
        let (offset, mut group) = self.group(n)?;
        let entries: Option<Vec<_>> = (0..self.group_len(n)).map(|_| group.entry()).collect();
        let first = self.guide(n)?.0;
        let whole =
            |entries: &Vec<Entry>| group.is_empty() && entries.first().is_some_and(|e| e.channel == first);
        entries.filter(whole).ok_or_else(|| self.bad_group(offset))
    }

    /// Shows what it holds of each channel, until `visit` breaks.
    pub fn each_channel(&self, visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>>) -> Result<()> {
        for n in 0..self.footer.groups() {
            for entry in self.entries(n)? {
                if visit(self.checked(entry)?)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The first channel from `from` on for which `wanted` says so of its last seq here, with that.
    pub fn find_channel(
        &self,
        from: ChannelId,
        wanted: impl Fn(ChannelId, u64) -> bool,
    ) -> Result<Option<(ChannelId, u64)>> {
        for n in 0..self.footer.groups() {
            if n + 1 < self.footer.groups() && self.guide(n + 1)?.0 <= from {
                continue;
            }
            let (offset, mut group) = self.group(n)?;
            for _ in 0..self.group_len(n) {
                let entry = group.entry().ok_or_else(|| self.bad_group(offset))?;
                if entry.channel >= from && wanted(entry.channel, entry.extent.last_seq) {
                    return Ok(Some((entry.channel, entry.extent.last_seq)));
                }
            }
        }
        Ok(None)
    }

    /// How many entries group `n` has.
    fn group_len(&self, n: u64) -> u64 {
        (self.footer.channels - n * GROUP as u64).min(GROUP as u64)
    }

    /// Where group `n` begins in the file, and a decoder of it.
    fn group(&self, n: u64) -> Result<(u64, EntryGroup<'_>)> {
        let (first, start) = self.guide(n)?;
        let end = match n + 1 {
            next if next < self.footer.groups() => self.guide(next)?.1,
            _ => self.footer.directory - self.footer.entries,
        };
        let offset = self.footer.entries.saturating_add(start);
        let len = end.checked_sub(start).filter(|len| *len <= MAX_GROUP);
        let len = len.filter(|len| offset.checked_add(*len).is_some_and(|end| end <= self.footer.directory));
        let len = len.ok_or_else(|| self.bad_group(offset))?;
        let group = EntryGroup::new(self.sealed.bytes(offset, len as usize)?, first, self.footer.tails);
        Ok((offset, group.ok_or_else(|| self.bad_group(offset))?))
    }

    fn bad_group(&self, offset: u64) -> Error {
        self.sealed.corrupt(offset, "no group of channels")
    }

    /// What the directory tells of group `n`: its first channel, and where it begins in the section of the entries.
    pub(super) fn guide(&self, n: u64) -> Result<(ChannelId, u64)> {
        let offset = self.footer.directory + n * GUIDE as u64;
        let mut r = Reader::new(self.sealed.bytes(offset, GUIDE)?);
        let mut guide = || Some((ChannelId(r.u32()?), r.u64()?));
        guide().ok_or_else(|| self.short(offset))
    }

    /// The index's entry `n`.
    pub(super) fn handle(&self, n: u64) -> Result<Handle> {
        let offset = self.footer.index + n * Handle::LEN as u64;
        let handle = Handle::decode(self.sealed.bytes(offset, Handle::LEN)?);
        handle.ok_or_else(|| self.sealed.corrupt(offset, "no entry of a block"))
    }

    /// Where each block lies, and what is in it.
    pub fn handles(&self) -> impl Iterator<Item = Result<Handle>> {
        (0..self.footer.blocks).map(|n| self.handle(n))
    }

    /// The first key of block `n`.
    fn first_key(&self, n: u64) -> Result<Key> {
        let offset = self.footer.index + n * Handle::LEN as u64;
        let mut r = Reader::new(self.sealed.bytes(offset, 12)?);
        let mut key = || Some((ChannelId(r.u32()?), r.u64()?));
        key().ok_or_else(|| self.short(offset))
    }

    fn short(&self, offset: u64) -> Error {
        self.sealed.corrupt(offset, "short entry")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.cache.evict(self.id());
    }
}

/// How many of `count` sorted entries come before the first one of which `before` is false.
fn partition(count: u64, before: impl Fn(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The numbers of a range in either order.
fn ordered(range: Range<u64>, reverse: bool) -> impl Iterator<Item = u64> {
    let (start, end) = (range.start, range.end);
    range.map(move |n| if reverse { end - 1 - (n - start) } else { n })
}
