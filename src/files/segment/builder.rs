//! Writes a message segment front to back.
//!
//! Invariants: channels ascend, and in each channel seqs do. A record goes into a block when the next one of its channel
//! comes; the one left over is the channel's tail if it is to have one, and else goes into a block too. In memory are one
//! block, the index, the directory's bytes, and the shared tails.

use std::mem;

use bytes::Bytes;
use lz4_flex::block::{compress_into, get_maximum_output_size};

use super::chain::Chain;
use super::directory::Directory;
use super::format::{BLOCK, Extent, Footer, Handle, Key, MAX_RAW, Summary};
use crate::env::Dir;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::sealed::{Kind, SealedWriter, StoreId};
use crate::model::ids::ChannelId;

/// How often the pacer is asked, in bytes written.
const STRIDE: u64 = 256 << 10;
/// Blocks with fewer raw bytes are neither copied as they are, nor closed for one that is: they would stay small for ever.
const SMALL: usize = BLOCK / 4;

/// Called with the number of bytes written since the last call. It may sleep, and an error from it stops the build.
pub type Pace<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// A segment in the making. If it is dropped before [`SegmentBuilder::finish`], its file is an orphan.
pub struct SegmentBuilder<'a> {
    writer: SealedWriter,
    pace: &'a mut Pace<'a>,
    /// Bytes written that the pacer doesn't know of.
    unpaced: u64,
    /// The records of the block in the making, the key of the first, and all together.
    block: Vec<u8>,
    first: Key,
    summary: Summary,
    /// The block is closed before it grows beyond this many bytes.
    limit: usize,
    packed: Vec<u8>,
    index: Vec<u8>,
    directory: Directory,
    tails: Vec<Bytes>,
    /// The channel whose records come, and the last one that has an entry.
    open: Option<Channel>,
    closed: Option<ChannelId>,
    /// The greatest version that a link leads to.
    linked: u64,
    messages: u64,
}

/// The channel whose records come.
struct Channel {
    id: ChannelId,
    chain: Chain,
    /// Whether its last record is kept as a tail.
    tail: bool,
    /// The seqs of its first and last record so far; 0 before the first.
    seqs: (u64, u64),
    /// The bytes of its records in blocks.
    bytes: u64,
    /// Its last record, if that is in no block so far.
    left: Option<Left>,
}

/// A record that waits for the next one.
struct Left {
    seq: u64,
    timestamp: i64,
    version: u64,
    bytes: Bytes,
}

impl<'a> SegmentBuilder<'a> {
    /// Makes the file of segment `id`.
    pub fn create(
        dir: &dyn Dir,
        store: StoreId,
        id: u64,
        pace: &'a mut Pace<'a>,
    ) -> Result<SegmentBuilder<'a>> {
        Ok(SegmentBuilder {
            writer: SealedWriter::create(dir, Kind::Segment, store, id)?,
            pace,
            unpaced: 0,
            block: Vec::with_capacity(BLOCK),
            first: (ChannelId(0), 0),
            summary: Summary::EMPTY,
            limit: BLOCK,
            packed: Vec::new(),
            index: Vec::new(),
            directory: Directory::default(),
            tails: Vec::new(),
            open: None,
            closed: None,
            linked: 0,
            messages: 0,
        })
    }

    /// Begins a channel, which comes after all earlier ones and continues in older files as `chain` says. Its last record is
    /// kept out of the blocks, to be read without decompressing, if `tail`. It leaves no trace if no record follows.
    pub fn channel(&mut self, id: ChannelId, chain: Chain, tail: bool) -> Result<()> {
        self.close()?;
        if self.closed.is_some_and(|last| last >= id) {
            return Err(Error::invalid("the channels of a segment do not ascend"));
        }
        if !chain.is_sane() {
            return Err(Error::invalid("a channel's links do not lead backwards"));
        }
        self.open = Some(Channel { id, chain, tail, seqs: (0, 0), bytes: 0, left: None });
        Ok(())
    }

    /// Adds an encoded record of the channel. Its bytes are kept alive until the next one comes, those of a tail until the
    /// segment is finished.
    pub fn add(&mut self, bytes: Bytes) -> Result<()> {
        let whole = |(_, len): &(Record<'_>, usize)| *len == bytes.len() && *len <= MAX_RAW as usize;
        let Some((record, _)) = Record::read(&bytes).filter(whole) else {
            return Err(Error::invalid("not an encoded record"));
        };
        let seq = record.mark.seq;
        let (timestamp, version) = (record.timestamp, record.version);
        let before = self.step((record.channel, seq))?.replace(Left { seq, timestamp, version, bytes });
        if let Some(before) = before {
            self.pack(&before)?;
        }
        self.messages += 1;
        Ok(())
    }

    /// Whether [`SegmentBuilder::copy`] of a block leaves no small one in the file.
    pub fn fits(&self, handle: &Handle) -> bool {
        let held = self.held();
        (held == 0 || held >= SMALL) && handle.raw_len as usize >= SMALL
    }

    /// Says that `len` bytes of records come, which make two blocks with what is held: to be of about one size, so that a
    /// small rest does not keep the next block from being copied.
    pub fn balance(&mut self, len: u32) {
        let len = self.held() + len as usize;
        if (BLOCK..2 * BLOCK).contains(&len) {
            self.limit = len / 2 + len / 16;
        }
    }

    /// How long the block will be with the record that is left over.
    fn held(&self) -> usize {
        let left = self.open.as_ref().and_then(|open| open.left.as_ref());
        let left = left.map_or(0, |left| left.bytes.len());
        if self.block.len() + left > self.limit { left } else { self.block.len() + left }
    }

    /// Adds a block of another segment as it is stored there. It holds records of the channel only, and more records of
    /// the channel must follow.
    pub fn copy(&mut self, handle: &Handle, stored: &[u8]) -> Result<()> {
        if let Some(before) = self.step(handle.first)?.take() {
            self.pack(&before)?;
        }
        self.flush_block()?;
        if let Some(open) = &mut self.open {
            open.bytes += u64::from(handle.raw_len);
        }
        let handle = Handle { offset: self.writer.position(), ..*handle };
        handle.encode(&mut self.index);
        self.messages += u64::from(handle.summary.records);
        self.write(stored)
    }

    /// Notes that a record with this key comes next, and hands out the place of the one left over.
    fn step(&mut self, key: Key) -> Result<&mut Option<Left>> {
        let next = |open: &&mut Channel| open.id == key.0 && open.seqs.1.max(open.chain.prev.seq) < key.1;
        match self.open.as_mut().filter(next) {
            Some(open) => {
                open.seqs = (if open.seqs.0 == 0 { key.1 } else { open.seqs.0 }, key.1);
                Ok(&mut open.left)
            }
            None => Err(Error::invalid("the records of a segment do not ascend")),
        }
    }

    /// Ends the channel.
    fn close(&mut self) -> Result<()> {
        let Some(Channel { id, chain, tail, seqs, mut bytes, left }) = self.open.take() else {
            return Ok(());
        };
        if seqs.0 == 0 {
            return Ok(());
        }
        self.closed = Some(id);
        let Some(left) = left else {
            return Err(Error::invalid("a channel of a segment ends with a copied block"));
        };
        bytes += if tail { 0 } else { left.bytes.len() as u64 };
        let extent = Extent { first_seq: seqs.0, last_seq: seqs.1, bytes, chain };
        self.linked = self.linked.max(chain.prev.version);
        self.directory.push(id, extent, tail.then_some(left.bytes.len() as u32));
        if tail {
            self.tails.push(left.bytes);
            return Ok(());
        }
        self.pack_of(id, &left)
    }

    /// Puts a record of the open channel into a block.
    fn pack(&mut self, record: &Left) -> Result<()> {
        let id = self.open.as_mut().map_or(ChannelId(0), |open| {
            open.bytes += record.bytes.len() as u64;
            open.id
        });
        self.pack_of(id, record)
    }

    /// Puts a record into the block, or into a new one if it doesn't fit.
    fn pack_of(&mut self, channel: ChannelId, record: &Left) -> Result<()> {
        if self.block.len() + record.bytes.len() > self.limit {
            self.flush_block()?;
        }
        if self.block.is_empty() {
            self.first = (channel, record.seq);
        }
        self.summary.note(record.timestamp, record.version);
        self.block.extend_from_slice(&record.bytes);
        Ok(())
    }

    /// Writes the block, and its entry in the index.
    fn flush_block(&mut self) -> Result<()> {
        self.limit = BLOCK;
        if self.block.is_empty() {
            return Ok(());
        }
        let (block, mut packed) = (mem::take(&mut self.block), mem::take(&mut self.packed));
        packed.resize(get_maximum_output_size(block.len()), 0);
        let len = compress_into(&block, &mut packed).unwrap_or(block.len());
        // A small gain is not worth decompressing, caching and copying what a raw block would share.
        let stored = if len < block.len() / 8 * 7 { &packed[..len] } else { &block[..] };
        let handle = Handle {
            first: self.first,
            offset: self.writer.position(),
            stored_len: stored.len() as u32,
            raw_len: block.len() as u32,
            summary: mem::replace(&mut self.summary, Summary::EMPTY),
        };
        handle.encode(&mut self.index);
        self.write(stored)?;
        (self.block, self.packed) = (block, packed);
        self.block.clear();
        Ok(())
    }

    /// Writes content. Everything written goes through here, so that everything is paced.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write(bytes)?;
        self.unpaced += bytes.len() as u64;
        if self.unpaced >= STRIDE {
            (self.pace)(mem::take(&mut self.unpaced))?;
        }
        Ok(())
    }

    /// Writes what is left and syncs the file, which then covers `versions`, first and last. Returns its length.
    pub fn finish(mut self, versions: (u64, u64)) -> Result<u64> {
        self.close()?;
        if versions.0 > versions.1 || self.linked >= versions.0 {
            return Err(Error::invalid("the versions of a segment do not ascend"));
        }
        self.flush_block()?;
        let tails = self.writer.position();
        for tail in mem::take(&mut self.tails) {
            self.write(&tail)?;
        }
        let index = self.writer.position();
        let handles = mem::take(&mut self.index);
        self.write(&handles)?;
        let entries = self.writer.position();
        let mut made = mem::take(&mut self.directory);
        made.flush();
        self.write(&made.groups)?;
        let directory = self.writer.position();
        self.write(&made.index)?;
        let footer = Footer {
            tails,
            index,
            entries,
            directory,
            blocks: (handles.len() / Handle::LEN) as u64,
            channels: made.count,
            messages: self.messages,
            versions,
        };
        (self.pace)(self.unpaced)?;
        self.writer.finish(&footer.encode())
    }
}
