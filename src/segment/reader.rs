//! Reads a message segment: the last record of a channel, or a range of its records.
//!
//! Invariants: what is handed out was checked, by its page's checksum and by its own form, and lies where index and
//! directory say. Lookups by seq search, as the seqs of a channel may have a gap. No offset, length or count from the file
//! is followed before it was checked against its section, so that a hostile file costs an error and no more.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block::decompress_into;

use super::block::Block;
use super::cache::BlockCache;
use super::format::{Entry, Extent, Footer, Handle, Key};
use crate::codec::Reader;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::sealed::{Kind, Sealed, StoreId};
use crate::types::ChannelId;

/// Greater than every key: ids stay below [`crate::types::MAX_IDS`].
const END: Key = (ChannelId(u32::MAX), u64::MAX);

/// What is called with each encoded record, and whether it wants more.
pub type Visit<'a> = dyn FnMut(Bytes) -> Result<ControlFlow<()>> + 'a;

/// How a scan gets block `n`.
pub type Load<'a> = dyn FnMut(u64) -> Result<Arc<Block>> + 'a;

/// An open message segment.
#[derive(Debug)]
pub struct Segment {
    pub(super) sealed: Sealed,
    pub(super) footer: Footer,
    cache: Arc<BlockCache>,
}

impl Segment {
    /// Opens segment `id`, which the manifest says is `len` bytes long.
    pub fn open(
        env: &dyn Env,
        dir: &Path,
        store: StoreId,
        id: u64,
        len: u64,
        cache: Arc<BlockCache>,
    ) -> Result<Segment> {
        Segment::new(Sealed::open(env, dir, Kind::Segment, store, id, len)?, cache)
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

    /// The file's id.
    pub fn id(&self) -> u64 {
        self.sealed.id()
    }

    /// How many messages it holds.
    pub fn messages(&self) -> u64 {
        self.footer.messages
    }

    /// How many channels it holds messages of.
    pub fn channels(&self) -> u64 {
        self.footer.channels
    }

    /// The first and the last version of the range that it covers.
    pub fn versions(&self) -> (u64, u64) {
        self.footer.versions
    }

    /// What it holds of a channel.
    pub fn extent(&self, channel: ChannelId) -> Result<Option<Extent>> {
        Ok(self.find(channel)?.map(|entry| entry.extent))
    }

    /// The last encoded record of a channel. Nothing is decompressed; the bytes share the map.
    pub fn last(&self, channel: ChannelId) -> Result<Option<Bytes>> {
        self.find(channel)?.map(|entry| self.tail(&entry)).transpose()
    }

    /// Visits the encoded records of a channel with `from <= seq <= to`, ascending or descending. The bytes share the
    /// map, or a block of the cache. Tells whether `visit` broke off.
    pub fn read(
        &self,
        channel: ChannelId,
        from: u64,
        to: u64,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        match self.find(channel)? {
            Some(entry) => self.scan(&entry, from..=to, reverse, &mut |n| self.cached(n), visit),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// Like [`Segment::read`], of a known channel, with blocks from `load`.
    pub(super) fn scan(
        &self,
        entry: &Entry,
        seqs: RangeInclusive<u64>,
        reverse: bool,
        load: &mut Load<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let tail = seqs.contains(&entry.extent.last_seq);
        if tail && reverse && visit(self.tail(entry)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if self.scan_blocks(entry, &seqs, reverse, load, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if tail && !reverse { visit(self.tail(entry)?) } else { Ok(ControlFlow::Continue(())) }
    }

    /// The part of a scan that lies in blocks, which is all but the channel's last record.
    fn scan_blocks(
        &self,
        entry: &Entry,
        seqs: &RangeInclusive<u64>,
        reverse: bool,
        load: &mut Load<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let first = (entry.channel, entry.extent.first_seq.max(*seqs.start()));
        let last = (entry.channel, (entry.extent.last_seq - 1).min(*seqs.end()));
        if first > last {
            return Ok(ControlFlow::Continue(()));
        }
        for n in ordered(self.blocks(first, last)?, reverse) {
            let block = load(n)?;
            let records = block.range(first, last);
            for record in ordered(records.start as u64..records.end as u64, reverse) {
                if visit(block.record(record as usize))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The blocks that may hold records with `first <= key <= last`. There is one that begins at `first` or before it, as
    /// callers look for no key before a channel's first.
    fn blocks(&self, first: Key, last: Key) -> Result<Range<u64>> {
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

    /// Reads block `n` and checks it against the index.
    pub(super) fn load(&self, n: u64) -> Result<Block> {
        let handle = self.handle(n)?;
        let fault = |what: String| self.sealed.corrupt(handle.offset, what);
        let (key, offset) = match n + 1 {
            next if next < self.footer.blocks => self.handle(next).map(|next| (next.first, next.offset))?,
            _ => (END, self.footer.tails),
        };
        if handle.offset.checked_add(u64::from(handle.stored_len)) != Some(offset) {
            return Err(fault("the block does not end where the next one begins".into()));
        }
        let block = Block::parse(self.raw(&handle)?, handle.compressed())
            .map_err(|at| fault(format!("no record, or out of order, at byte {at} of the block")))?;
        if block.bounds().is_none_or(|(first, last)| first != handle.first || last >= key) {
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

    /// The last record of a channel.
    pub(super) fn tail(&self, entry: &Entry) -> Result<Bytes> {
        let bytes = self.sealed.slice(entry.tail, entry.tail_len as usize)?;
        let good = Record::decode(&bytes).is_some_and(|record| {
            record.encoded_len() == bytes.len()
                && (record.channel, record.mark.seq) == (entry.channel, entry.extent.last_seq)
        });
        if good { Ok(bytes) } else { Err(self.sealed.corrupt(entry.tail, "not the channel's last record")) }
    }

    /// The directory's entry of a channel.
    pub(super) fn find(&self, channel: ChannelId) -> Result<Option<Entry>> {
        let n = partition(self.footer.channels, |n| Ok(self.channel(n)? < channel))?;
        if n == self.footer.channels || self.channel(n)? != channel {
            return Ok(None);
        }
        self.entry(n).map(Some)
    }

    /// The directory's entry `n`.
    pub(super) fn entry(&self, n: u64) -> Result<Entry> {
        let offset = self.footer.directory + n * Entry::LEN as u64;
        let entry = Entry::decode(self.sealed.bytes(offset, Entry::LEN)?).filter(|entry| {
            let end = entry.tail.checked_add(u64::from(entry.tail_len));
            entry.tail >= self.footer.tails && end.is_some_and(|end| end <= self.footer.index)
        });
        let entry = entry.ok_or_else(|| self.sealed.corrupt(offset, "no entry of a channel"))?;
        // Readers follow this backwards from file to file: it must lead away from here.
        if entry.extent.prev_version >= self.footer.versions.0 {
            return Err(self.sealed.corrupt(offset, "the version before the segment is not before it"));
        }
        Ok(entry)
    }

    /// The channel of the directory's entry `n`.
    fn channel(&self, n: u64) -> Result<ChannelId> {
        let offset = self.footer.directory + n * Entry::LEN as u64;
        let id = Reader::new(self.sealed.bytes(offset, 4)?).u32();
        id.map(ChannelId).ok_or_else(|| self.short(offset))
    }

    /// The index's entry `n`.
    pub(super) fn handle(&self, n: u64) -> Result<Handle> {
        let offset = self.footer.index + n * Handle::LEN as u64;
        let handle = Handle::decode(self.sealed.bytes(offset, Handle::LEN)?);
        handle.ok_or_else(|| self.sealed.corrupt(offset, "no entry of a block"))
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
