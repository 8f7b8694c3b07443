//! The directory: what a segment holds of each channel. Owns the bytes of its entries.
//!
//! ```text
//! group    up to 16 entries; only the last group of a segment has fewer
//!          tails v     where the tails of its entries begin, from the begin of the tails
//!          newest v    the greatest version of a `prev` in it; 0 if there is none
//! entry    head v      the number of channels left out since the entry before << 3, and 1 a tail, 2 a `prev`, 4 a `jump`
//!          first seq v, last seq - first seq v
//!          bytes v      of its records in blocks, before compression; absent if it has none there
//!          with 2: newest - prev.version v, first seq - 1 - prev.seq v, depth v
//!          with 4: prev.version - jump.version v, prev.seq - jump.seq v
//!          with 1: the tail's length v; the tails of a group lie one after another
//! ```
//!
//! The first entry's channel is the one that the directory's fixed-width part tells of the group. An entry takes about 8
//! bytes for a channel's first file, and about 17 later. Invariants: what was decoded has links that lead backwards, and
//! seqs in order.

use super::chain::{Chain, Link};
use super::format::{Extent, GROUP};
use crate::model::codec::{Put, Reader};
use crate::model::ids::ChannelId;

/// More bytes than any group takes.
pub const MAX_GROUP: u64 = 20 + GROUP as u64 * 90;

const TAIL: u64 = 1;
const PREV: u64 = 2;
const JUMP: u64 = 4;
/// How many bits of a head are flags.
const FLAGS: u32 = 3;

/// An entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The channel.
    pub channel: ChannelId,
    /// Its messages here.
    pub extent: Extent,
    /// Where its last record lies, if that is kept out of the blocks.
    pub tail: Option<Tail>,
}

/// The place of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The offset in the file.
    pub offset: u64,
    /// The length.
    pub len: u32,
}

impl Entry {
    /// The seqs of the first and the last of its records that lie in blocks, if there are any.
    pub fn blocks(&self) -> Option<(u64, u64)> {
        let last = self.extent.last_seq - u64::from(self.tail.is_some());
        (self.extent.first_seq <= last).then_some((self.extent.first_seq, last))
    }

    /// The bytes of its records, before compression.
    pub fn bytes(&self) -> u64 {
        self.extent.bytes.saturating_add(self.tail.map_or(0, |tail| tail.len.into()))
    }
}

/// Whether some of a channel's records lie in blocks.
fn in_blocks(first_seq: u64, last_seq: u64, tail: bool) -> bool {
    !tail || first_seq < last_seq
}

/// A directory in the making.
#[derive(Default)]
pub struct Directory {
    /// The groups that are whole, and where each begins.
    pub groups: Vec<u8>,
    pub index: Vec<u8>,
    /// How many entries there are.
    pub count: u64,
    /// The entries of the group in the making, each with the length of its tail.
    open: Vec<(ChannelId, Extent, Option<u32>)>,
    /// The length of the tails before that group.
    tails: u64,
}

impl Directory {
    /// Adds the entry of a channel, which comes after all earlier ones, with the length of its tail.
    pub fn push(&mut self, channel: ChannelId, extent: Extent, tail: Option<u32>) {
        self.open.push((channel, extent, tail));
        self.count += 1;
        if self.open.len() == GROUP {
            self.flush();
        }
    }

    /// Ends the group in the making. Only the last may be short.
    pub fn flush(&mut self) {
        let Some((first, ..)) = self.open.first() else { return };
        let newest = self.open.iter().map(|(_, extent, _)| extent.chain.prev.version).max().unwrap_or(0);
        let mut next = u64::from(first.0);
        self.index.put_u32(first.0);
        self.index.put_u64(self.groups.len() as u64);
        self.groups.put_varint(self.tails);
        self.groups.put_varint(newest);
        for (channel, extent, tail) in self.open.drain(..) {
            encode(&mut self.groups, u64::from(channel.0) - next, newest, &extent, tail);
            next = u64::from(channel.0) + 1;
            self.tails += u64::from(tail.unwrap_or(0));
        }
    }
}

fn encode(out: &mut Vec<u8>, left_out: u64, newest: u64, extent: &Extent, tail: Option<u32>) {
    let Extent { first_seq, last_seq, bytes, chain: Chain { prev, jump, depth } } = *extent;
    let (has_prev, has_jump) = (!prev.is_none(), !jump.is_none());
    let flags = (u64::from(tail.is_some()) * TAIL)
        | (u64::from(has_prev) * PREV)
        | (u64::from(has_prev && has_jump) * JUMP);
    out.put_varint(left_out << FLAGS | flags);
    out.put_varint(first_seq);
    out.put_varint(last_seq - first_seq);
    if in_blocks(first_seq, last_seq, tail.is_some()) {
        out.put_varint(bytes);
    }
    if has_prev {
        out.put_varint(newest - prev.version);
        out.put_varint(first_seq - 1 - prev.seq);
        out.put_varint(depth.into());
    }
    if has_prev && has_jump {
        out.put_varint(prev.version - jump.version);
        out.put_varint(prev.seq - jump.seq);
    }
    if let Some(len) = tail {
        out.put_varint(len.into());
    }
}

/// Decodes a group from its first entry to its last.
pub struct EntryGroup<'a> {
    reader: Reader<'a>,
    /// The least channel that may come next.
    next: u64,
    newest: u64,
    /// The offset of the next tail.
    tail: u64,
}

impl<'a> EntryGroup<'a> {
    /// A group that begins with the channel `first`. `tails` is where the section of the tails begins.
    pub fn new(bytes: &'a [u8], first: ChannelId, tails: u64) -> Option<EntryGroup<'a>> {
        let mut reader = Reader::new(bytes);
        let tail = tails.checked_add(reader.varint()?)?;
        let newest = reader.varint()?;
        Some(EntryGroup { reader, next: first.0.into(), newest, tail })
    }

    /// Whether all bytes were decoded.
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// Decodes the next entry. `None` if there is no valid one.
    pub fn entry(&mut self) -> Option<Entry> {
        let head = self.reader.varint()?;
        let channel = u32::try_from(self.next.checked_add(head >> FLAGS)?).ok()?;
        let first_seq = self.reader.varint()?;
        let last_seq = first_seq.checked_add(self.reader.varint()?)?;
        let in_blocks = in_blocks(first_seq, last_seq, head & TAIL != 0);
        let bytes = if in_blocks { self.reader.varint()? } else { 0 };
        let chain = self.chain(head, first_seq.checked_sub(1)?)?;
        let tail = if head & TAIL == 0 { None } else { Some(self.tail()?) };
        self.next = u64::from(channel) + 1;
        let extent = Extent { first_seq, last_seq, bytes, chain };
        Some(Entry { channel: ChannelId(channel), extent, tail })
    }

    /// `before` is the greatest seq that a link may have.
    fn chain(&mut self, head: u64, before: u64) -> Option<Chain> {
        let r = &mut self.reader;
        let mut chain = Chain::default();
        if head & PREV != 0 {
            let version = self.newest.checked_sub(r.varint()?)?;
            chain.prev = Link { version, seq: before.checked_sub(r.varint()?)? };
            chain.depth = r.varint32()?;
        }
        if head & JUMP != 0 {
            let version = chain.prev.version.checked_sub(r.varint()?)?;
            chain.jump = Link { version, seq: chain.prev.seq.checked_sub(r.varint()?)? };
        }
        // A flag without a link is not what was encoded.
        let flags =
            (chain.prev.is_some() == (head & PREV != 0)) && (chain.jump.is_some() == (head & JUMP != 0));
        Some(chain).filter(|chain| flags && chain.is_sane())
    }

    fn tail(&mut self) -> Option<Tail> {
        let tail = Tail { offset: self.tail, len: self.reader.varint32()? };
        self.tail = self.tail.checked_add(tail.len.into())?;
        Some(tail)
    }
}
