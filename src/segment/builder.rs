//! Writes a message segment front to back.
//!
//! Invariants: channels ascend, and in each channel seqs do. A record goes into a block when the next one of its channel
//! comes; the one left over is the channel's tail. In memory are one block, the index, and an entry with a shared tail for
//! each channel, about 70 bytes.

use std::mem;
use std::path::Path;

use bytes::Bytes;
use lz4_flex::block::{compress_into, get_maximum_output_size};

use super::format::{BLOCK, Entry, Extent, Footer, Handle, Key, MAX_RAW};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::sealed::{Kind, SealedWriter, StoreId};
use crate::types::{ChannelId, Mark};

/// How often the pacer is asked, in bytes written.
const STRIDE: u64 = 256 << 10;

/// Called with the number of bytes written since the last call. It may sleep, and an error from it stops the build.
pub type Pace<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// A segment in the making. If it is dropped before [`SegmentBuilder::finish`], its file is an orphan.
pub struct SegmentBuilder<'a> {
    writer: SealedWriter,
    pace: &'a mut Pace<'a>,
    /// Bytes written that the pacer doesn't know of.
    unpaced: u64,
    /// The records of the block in the making, and the key of the first.
    block: Vec<u8>,
    first: Key,
    packed: Vec<u8>,
    index: Vec<u8>,
    channels: Vec<Channel>,
    /// A channel without a record so far, and its `prev_version`.
    begun: Option<(ChannelId, u64)>,
    messages: u64,
}

/// A channel's directory entry in the making.
struct Channel {
    id: ChannelId,
    extent: Extent,
    tail: Bytes,
}

impl<'a> SegmentBuilder<'a> {
    /// Makes the file of segment `id`.
    pub fn create(
        env: &dyn Env,
        dir: &Path,
        store: StoreId,
        id: u64,
        pace: &'a mut Pace<'a>,
    ) -> Result<SegmentBuilder<'a>> {
        Ok(SegmentBuilder {
            writer: SealedWriter::create(env, dir, Kind::Segment, store, id)?,
            pace,
            unpaced: 0,
            block: Vec::with_capacity(BLOCK),
            first: (ChannelId(0), 0),
            packed: Vec::new(),
            index: Vec::new(),
            channels: Vec::new(),
            begun: None,
            messages: 0,
        })
    }

    /// Begins a channel, which comes after all earlier ones. It leaves no trace if no record follows.
    pub fn channel(&mut self, channel: ChannelId, prev_version: u64) -> Result<()> {
        if self.channels.last().is_some_and(|last| last.id >= channel) {
            return Err(Error::invalid("the channels of a segment do not ascend"));
        }
        self.begun = Some((channel, prev_version));
        Ok(())
    }

    /// Adds an encoded record of the channel. Its bytes are kept alive until the next one comes, the last one's until the
    /// segment is finished.
    pub fn add(&mut self, record: Bytes) -> Result<()> {
        let whole = |r: &Record<'_>| r.encoded_len() == record.len() && record.len() <= MAX_RAW as usize;
        let Some(Record { channel, mark: Mark { seq, .. }, .. }) = Record::decode(&record).filter(whole)
        else {
            return Err(Error::invalid("not an encoded record"));
        };
        match (self.begun.take(), self.channels.last_mut()) {
            (Some((id, prev_version)), _) if channel == id && seq > 0 => {
                let extent = Extent { first_seq: seq, last_seq: seq, prev_version };
                self.channels.push(Channel { id, extent, tail: record });
            }
            (None, Some(last)) if channel == last.id && seq > last.extent.last_seq => {
                let key = (last.id, mem::replace(&mut last.extent.last_seq, seq));
                let before = mem::replace(&mut last.tail, record);
                self.pack(key, &before)?;
            }
            _ => return Err(Error::invalid("the records of a segment do not ascend")),
        }
        self.messages += 1;
        Ok(())
    }

    /// Puts a record into the block, or into a new one if it doesn't fit.
    fn pack(&mut self, key: Key, record: &[u8]) -> Result<()> {
        if self.block.len() + record.len() > BLOCK {
            self.flush_block()?;
        }
        if self.block.is_empty() {
            self.first = key;
        }
        self.block.extend_from_slice(record);
        Ok(())
    }

    /// Writes the block, and its entry in the index.
    fn flush_block(&mut self) -> Result<()> {
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
        let channels = mem::take(&mut self.channels);
        let after = channels.iter().all(|channel| channel.extent.prev_version < versions.0);
        if versions.0 > versions.1 || !after {
            return Err(Error::invalid("the versions of a segment do not ascend"));
        }
        self.flush_block()?;
        let tails = self.writer.position();
        for channel in &channels {
            self.write(&channel.tail)?;
        }
        let index = self.writer.position();
        let handles = mem::take(&mut self.index);
        self.write(&handles)?;
        let footer = Footer {
            tails,
            index,
            directory: self.writer.position(),
            blocks: (handles.len() / Handle::LEN) as u64,
            channels: channels.len() as u64,
            messages: self.messages,
            versions,
        };
        self.write_directory(&channels, tails)?;
        (self.pace)(self.unpaced)?;
        self.writer.finish(&footer.encode())
    }

    fn write_directory(&mut self, channels: &[Channel], mut tail: u64) -> Result<()> {
        let mut bytes = Vec::with_capacity(Entry::LEN);
        for channel in channels {
            let tail_len = channel.tail.len() as u32;
            bytes.clear();
            Entry { channel: channel.id, extent: channel.extent, tail, tail_len }.encode(&mut bytes);
            self.write(&bytes)?;
            tail += u64::from(tail_len);
        }
        Ok(())
    }
}
