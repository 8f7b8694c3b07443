//! Merges neighbouring segments into one.
//!
//! Neighbours cover neighbouring versions, so that in every channel all records of an older one come before those of a
//! newer one: a merge only concatenates, channel by channel. Blocks are read past the shared cache, one at a time for each
//! input, so that a merge evicts nothing that readers use.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::block::Block;
use super::builder::{Pace, SegmentBuilder};
use super::format::Entry;
use super::reader::Segment;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sealed::StoreId;
use crate::types::ChannelId;

/// Merges `inputs`, oldest first, into segment `id`, and returns its length. An error leaves an orphan file behind.
pub fn merge<'a>(
    env: &dyn Env,
    dir: &Path,
    store: StoreId,
    id: u64,
    inputs: &[Arc<Segment>],
    pace: &'a mut Pace<'a>,
) -> Result<u64> {
    let versions = span(inputs)?;
    let mut sources =
        inputs.iter().map(|segment| Source::new(segment, versions.0)).collect::<Result<Vec<_>>>()?;
    let mut builder = SegmentBuilder::create(env, dir, store, id, pace)?;
    while let Some(channel) = sources.iter().filter_map(Source::channel).min() {
        let mut last_seq = None;
        for source in sources.iter_mut().filter(|source| source.channel() == Some(channel)) {
            last_seq = Some(source.copy(last_seq, &mut builder)?);
        }
    }
    builder.finish(versions)
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
struct Source<'a> {
    segment: &'a Segment,
    /// The number of the next entry of the directory.
    next: u64,
    /// The entry before it: the channel that is due.
    entry: Option<Entry>,
    /// The block that was read last. Channels come in the order of the blocks, so that each is read once.
    block: Option<(u64, Arc<Block>)>,
    /// How many messages were not copied yet.
    left: u64,
    /// The first version of the merge.
    floor: u64,
}

impl<'a> Source<'a> {
    fn new(segment: &'a Segment, floor: u64) -> Result<Source<'a>> {
        let mut source =
            Source { segment, next: 0, entry: None, block: None, left: segment.messages(), floor };
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
        if self.next == self.segment.channels() {
            return if self.left == 0 { Ok(()) } else { Err(self.fault("messages of no channel")) };
        }
        let entry = self.segment.entry(self.next)?;
        if before.is_some_and(|before| before >= entry.channel) {
            return Err(self.fault("the channels do not ascend"));
        }
        self.entry = Some(entry);
        self.next += 1;
        Ok(())
    }

    /// Copies the channel that is due, steps on, and returns its last seq. `before` is the last seq of an older input.
    fn copy(&mut self, before: Option<u64>, builder: &mut SegmentBuilder<'_>) -> Result<u64> {
        let Some(entry) = self.entry else {
            return Err(self.fault("no channel is due"));
        };
        match before {
            None if entry.extent.prev_version >= self.floor => {
                return Err(self.fault("a channel goes on from messages that no older segment has"));
            }
            None => builder.channel(entry.channel, entry.extent.prev_version)?,
            Some(seq) if seq >= entry.extent.first_seq => {
                return Err(self.fault("a channel begins before it ended in an older segment"));
            }
            Some(_) => {}
        }
        let (segment, block, left) = (self.segment, &mut self.block, &mut self.left);
        let mut load = |n| keep(segment, block, n);
        let mut add = |record| {
            *left = left.checked_sub(1).ok_or_else(|| surplus(segment))?;
            builder.add(record)?;
            Ok(ControlFlow::Continue(()))
        };
        let _ = segment.scan(&entry, 0..=u64::MAX, false, &mut load, &mut add)?;
        self.advance()?;
        Ok(entry.extent.last_seq)
    }

    fn fault(&self, what: &str) -> Error {
        self.segment.sealed.corrupt(self.segment.footer.directory, what)
    }
}

fn surplus(segment: &Segment) -> Error {
    segment.sealed.corrupt(segment.sealed.content_end(), "more messages than the footer says")
}

/// Block `n`, which is read unless it is the one in `kept`.
fn keep(segment: &Segment, kept: &mut Option<(u64, Arc<Block>)>, n: u64) -> Result<Arc<Block>> {
    if let Some((_, block)) = kept.as_ref().filter(|(number, _)| *number == n) {
        return Ok(block.clone());
    }
    let block = Arc::new(segment.load(n)?);
    *kept = Some((n, block.clone()));
    Ok(block)
}
