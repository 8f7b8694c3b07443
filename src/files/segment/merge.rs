//! Merges neighbouring segments into one.
//!
//! Neighbours cover neighbouring versions, so that in every channel all records of an older one come before those of a
//! newer one: a merge only concatenates, channel by channel. A block that holds records of one channel only, and not its
//! last ones, is copied as it is stored, unless it holds what nobody gets any more. Other blocks are read past the shared cache, one at a time for each input, so that
//! a merge evicts nothing that readers use.
//!
//! Invariant: a channel continues in older files as its oldest input says. It keeps a tail only if its newest input has
//! one and the caller says that it still is the channel's last message.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::block::Block;
use super::builder::{Pace, SegmentBuilder};
use super::directory::Entry;
use super::format::Key;
use super::reader::Segment;
use crate::env::Dir;
use crate::env::fault;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::sealed::StoreId;
use crate::model::ids::ChannelId;

/// Tells whether a seq is that of a channel's last message.
pub type IsLast<'a> = dyn Fn(ChannelId, u64) -> bool + 'a;

/// Tells whether there are seqs of a channel in a range whose payloads nobody gets any more.
pub type IsWithheld<'a> = dyn Fn(ChannelId, RangeInclusive<u64>) -> Result<bool> + 'a;

/// Tells whether nobody gets a message's payload any more because of who sent it.
pub type IsErased<'a> = dyn Fn(&Record<'_>) -> bool + 'a;

/// What is asked about the messages of a merge.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whether a message is its channel's last.
    pub is_last: &'a IsLast<'a>,
    /// Whether payloads are withheld. They are left out, and the rest of such a record stays.
    pub is_withheld: &'a IsWithheld<'a>,
    /// Whether a payload is withheld because of its sender.
    pub is_erased: &'a IsErased<'a>,
    /// Of no message after this version it is.
    pub erased_upto: u64,
}

impl Ask<'_> {
    /// A record as it goes on: without its payload, if that is withheld.
    fn without(&self, bytes: Bytes) -> Result<Bytes> {
        let Some((record, _)) = Record::read(&bytes) else { return Ok(bytes) };
        if record.payload.is_empty() || !self.withholds(&record)? {
            return Ok(bytes);
        }
        let mut stub = Vec::new();
        Record { payload: &[], ..record }.encode(&mut stub);
        Ok(stub.into())
    }

    fn withholds(&self, record: &Record<'_>) -> Result<bool> {
        let seq = record.mark.seq;
        let erased = record.version <= self.erased_upto && (self.is_erased)(record);
        Ok(erased || (self.is_withheld)(record.channel, seq..=seq)?)
    }
}

/// Merges `inputs`, oldest first, into segment `id`, and returns its length. An error leaves an orphan file behind.
pub fn merge<'a>(
    dir: &dyn Dir,
    store: StoreId,
    id: u64,
    inputs: &[Arc<Segment>],
    ask: Ask<'_>,
    pace: &'a mut Pace<'a>,
) -> Result<u64> {
    let versions = span(inputs)?;
    let mut sources = inputs.iter().map(|segment| Input::new(segment)).collect::<Result<Vec<_>>>()?;
    let mut builder = SegmentBuilder::create(dir, store, id, pace)?;
    while let Some(channel) = sources.iter().filter_map(Input::channel).min() {
        let mut holders: Vec<_> =
            sources.iter_mut().filter(|source| source.channel() == Some(channel)).collect();
        begin(&holders, versions.0, ask.is_last, &mut builder)?;
        let mut last_seq = None;
        for source in &mut holders {
            last_seq = Some(source.copy(last_seq, &ask, &mut builder)?);
        }
    }
    builder.finish(versions)
}

/// Begins the channel that is due in `holders`, oldest first.
fn begin(
    holders: &[&mut Input<'_>],
    first_version: u64,
    is_last: &IsLast<'_>,
    builder: &mut SegmentBuilder<'_>,
) -> Result<()> {
    let (Some(oldest), Some(newest)) = (holders.first(), holders.last()) else { return Ok(()) };
    let (Some(first), Some(last)) = (oldest.entry, newest.entry) else { return Ok(()) };
    if first.extent.chain.prev.version >= first_version {
        return Err(oldest.fault("a channel goes on from messages that no older segment has"));
    }
    let tail = last.tail.is_some() && (fault(81) || is_last(last.channel, last.extent.last_seq));
    builder.channel(first.channel, first.extent.chain, tail)
}

/// The versions that all inputs cover together.
fn span(inputs: &[Arc<Segment>]) -> Result<(u64, u64)> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(Error::invalid("nothing to merge"));
    };
    if inputs.windows(2).any(|pair| pair[0].versions().1 >= pair[1].versions().0) {
        return Err(Error::invalid("the segments to merge are not neighbours, oldest first"));
    }
    Ok((first.versions().0, last.versions().1))
}

/// An input of a merge, read from its first channel to its last.
struct Input<'a> {
    segment: &'a Segment,
    /// The number of the next group of the directory, and what is left of the one before.
    next: u64,
    entries: vec::IntoIter<Entry>,
    /// The channel that is due.
    entry: Option<Entry>,
    /// The block that was read last. Channels come in the order of the blocks, so that each is read once.
    block: Option<(u64, Block)>,
    /// How many messages were not copied yet.
    left: u64,
}

impl<'a> Input<'a> {
    fn new(segment: &'a Segment) -> Result<Input<'a>> {
        let left = segment.messages();
        let mut source =
            Input { segment, next: 0, entries: Vec::new().into_iter(), entry: None, block: None, left };
        source.advance()?;
        Ok(source)
    }

    /// The channel that is due.
    fn channel(&self) -> Option<ChannelId> {
        self.entry.map(|entry| entry.channel)
    }

    /// Steps to the next channel.
    fn advance(&mut self) -> Result<()> {
        let before = self.channel();
        self.entry = None;
        if self.entries.as_slice().is_empty() && self.next < self.segment.footer.groups() {
            self.entries = self.segment.entries(self.next)?.into_iter();
            self.next += 1;
        }
        let Some(entry) = self.entries.next() else {
            return if self.left == 0 { Ok(()) } else { Err(self.fault("messages of no channel")) };
        };
        if before.is_some_and(|before| before >= entry.channel) {
            return Err(self.fault("the channels do not ascend"));
        }
        self.entry = Some(self.segment.checked(entry)?);
        Ok(())
    }

    /// Copies the channel that is due, steps on, and returns its last seq. `before` is the last seq of an older input.
    fn copy(&mut self, before: Option<u64>, ask: &Ask<'_>, builder: &mut SegmentBuilder<'_>) -> Result<u64> {
        let Some(entry) = self.entry else {
            return Err(self.fault("no channel is due"));
        };
        if before.is_some_and(|seq| seq >= entry.extent.first_seq) {
            return Err(self.fault("a channel begins before it ended in an older segment"));
        }
        if let Some((first, last)) = entry.blocks() {
            let (first, last) = ((entry.channel, first), (entry.channel, last));
            for n in self.segment.blocks(first, last)? {
                self.copy_block(n, first, last, ask, builder)?;
            }
        }
        if let Some(tail) = self.segment.tail_bytes(&entry)? {
            self.count(1)?;
            builder.add(ask.without(tail)?)?;
        }
        self.advance()?;
        Ok(entry.extent.last_seq)
    }

    /// Copies the records of block `n` with `first <= key <= last`.
    fn copy_block(
        &mut self,
        n: u64,
        first: Key,
        last: Key,
        ask: &Ask<'_>,
        builder: &mut SegmentBuilder<'_>,
    ) -> Result<()> {
        let whole = self.segment.lies_within(n, first, last)?;
        if whole && (fault(56) || !(ask.is_withheld)(first.0, self.segment.seqs(n)?)?) {
            let (handle, stored) = self.segment.stored(n)?;
            let unerased = handle.summary.versions.0 > ask.erased_upto;
            if unerased && builder.fits(&handle) {
                self.count(handle.summary.records.into())?;
                return builder.copy(&handle, stored);
            }
            if unerased {
                builder.balance(handle.raw_len);
            }
        }
        let block = match self.block.take() {
            Some((number, block)) if number == n => block,
            _ => self.segment.load(n)?,
        };
        let records = block.range(first, last);
        self.count(records.len() as u64)?;
        for record in records {
            builder.add(ask.without(block.record(record))?)?;
        }
        self.block = Some((n, block));
        Ok(())
    }

    /// Counts messages off.
    fn count(&mut self, messages: u64) -> Result<()> {
        let left = self.left.checked_sub(messages);
        let surplus = || {
            let offset = self.segment.sealed.content_end();
            self.segment.sealed.corrupt(offset, "more messages than the footer says")
        };
        self.left = left.ok_or_else(surplus)?;
        Ok(())
    }

    fn fault(&self, what: &str) -> Error {
        self.segment.sealed.corrupt(self.segment.footer.directory, what)
    }
}
