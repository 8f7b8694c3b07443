//! Finding messages. A channel's messages lie in several files. Each part knows the channel's last message before it, and
//! one possibly far back (`segment::chain`), and a version tells the file. So a reader goes to the files that it needs, in a
//! number of steps that is logarithmic in the number of sealed parts, and touches no other.
//!
//! Where a damaged segment breaks the chain, the directories of older segments are asked instead: what they hold is served,
//! and only what may lie in the damaged one is an error. A link that leads to a segment without its message is an error too:
//! else a range would seem to be empty.

use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;

use super::fileset::Place;
use super::layer::Layer;
use super::view::View;
use crate::env::fault;
use crate::error::{Error, Result};
use crate::files::log::LogFile;
use crate::files::record::Record;
use crate::files::segment::{EVER, Entry, Extent, Link, Segment};
use crate::model::head::Head;
use crate::model::ids::ChannelId;
use crate::model::message::Origin;

/// Called with each record in turn and bytes of which it borrows a part; breaks in order to stop.
pub type Visit<'a> = dyn FnMut(&Bytes, &Record<'_>) -> Result<ControlFlow<()>> + 'a;

/// A range of a channel's messages, as of one moment.
pub struct Messages<'v> {
    view: &'v View,
    channel: ChannelId,
    head: Head,
    range: RangeInclusive<u64>,
    reverse: bool,
    limit: usize,
    /// Only messages with such a timestamp are wanted.
    times: RangeInclusive<i64>,
}

/// What one source holds of a channel.
struct ChannelPart<'v> {
    source: PartSource<'v>,
    first_seq: u64,
    /// The last message before it.
    prev: Link,
    /// A message in some older part, or none.
    jump: Link,
}

enum PartSource<'v> {
    Layer(&'v Layer),
    Segment(&'v Segment, Entry),
}

impl ChannelPart<'_> {
    /// Whether a message may lie here. A layer may have grown since.
    fn has(&self, seq: u64) -> bool {
        let last = match &self.source {
            PartSource::Layer(_) => u64::MAX,
            PartSource::Segment(_, entry) => entry.extent.last_seq,
        };
        (self.first_seq..=last).contains(&seq)
    }

    /// A link leads here though the message that it names does not lie here.
    fn misled(&self, channel: ChannelId, link: Link) -> Error {
        let what = format!("message {} of channel {} should be here, and is not", link.seq, channel.0);
        match &self.source {
            PartSource::Layer(layer) => layer.log.corrupt(0, what),
            PartSource::Segment(segment, _) => segment.corrupt_entries(what),
        }
    }
}

impl View {
    /// The messages of a channel with a seq in `range`, those that were trimmed apart; at most `limit` will be read.
    pub(crate) fn messages(
        &self,
        channel: ChannelId,
        range: RangeInclusive<u64>,
        reverse: bool,
        limit: usize,
    ) -> Messages<'_> {
        let head = self.head_of(channel);
        let range = (*range.start()).max(head.trimmed.seq + 1)..=(*range.end()).min(head.last.seq);
        Messages { view: self, channel, head, range, reverse, limit, times: EVER }
    }

    /// Shows the last record of a channel that is not quiet; its head, which tells of one, is `head`. One look-up, and nothing
    /// is decompressed unless the file has later messages of the channel.
    pub(crate) fn last_record(&self, channel: ChannelId, head: &Head, see: &mut Visit<'_>) -> Result<()> {
        let (seq, version) = (head.loud().seq, head.loud_order());
        let active = &self.moment.active;
        if version > active.start.version
            && let Some(offset) = active.offset(channel, seq)
        {
            return active.log.record(offset, see).map(drop);
        }
        let mut found = false;
        if let Some(Place::Sealed(_, part)) = self.moment.files.locate(version) {
            let _ = part.segment.as_ref().map_err(Error::clone)?.last(channel, &mut |bytes, record| {
                found = record.version == version || fault(18);
                if found { see(bytes, record) } else { Ok(ControlFlow::Continue(())) }
            })?;
        }
        if !found {
            self.messages(channel, seq..=seq, true, 1).read(&mut |bytes, record| {
                found = true;
                see(bytes, record)
            })?;
        }
        if found { Ok(()) } else { Err(missing(self, channel, version)) }
    }
}

/// The last message of a channel up to `seq`, or where trimming ended if there is none after that.
pub fn origin_at(view: &View, channel: ChannelId, seq: u64) -> Result<Origin> {
    let trimmed = view.head_of(channel).trimmed;
    let mut origin = Origin { mark: trimmed, ..Origin::default() };
    if seq > trimmed.seq {
        view.messages(channel, 1..=seq, true, 1).read(&mut |_, record| {
            let Record { mark, version, sender, .. } = *record;
            origin = Origin { mark, version, sender, expires: record.expires() };
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(origin)
}

fn missing(view: &View, channel: ChannelId, version: u64) -> Error {
    let what = format!("nothing holds the message of channel {} with version {version}", channel.0);
    // No file can be named that should hold it; so the store's directory is.
    let log = &view.moment.active.log.path;
    Error::corrupt(log.parent().unwrap_or(log), 0, what)
}

impl<'v> Messages<'v> {
    /// Of these, only the messages with a timestamp in `times`. Timestamps need not ascend. Sealed blocks that hold none are
    /// skipped by what the index says of them.
    pub fn of_times(mut self, times: RangeInclusive<i64>) -> Self {
        if times != EVER {
            // How many must be looked at is not known.
            (self.times, self.limit) = (times, if self.limit == 0 { 0 } else { usize::MAX });
        }
        self
    }

    /// Visits the messages of the range, in its direction.
    pub fn read(&self, visit: &mut Visit<'_>) -> Result<()> {
        if self.range.is_empty() || self.times.is_empty() || self.limit == 0 {
            return Ok(());
        }
        let mut wanted = |bytes: &Bytes, record: &Record<'_>| match self.times.contains(&record.timestamp) {
            true => visit(bytes, record),
            false => Ok(ControlFlow::Continue(())),
        };
        if self.reverse { self.read_down(&mut wanted) } else { self.read_up(&mut wanted) }
    }

    /// The seq after which messages take at least `keep` bytes, as records and before compression; in sealed files at most a
    /// block more. 0 if there are not so many. Reads the records that are not sealed, what directories say of sealed ones, and
    /// at most one block.
    pub fn beyond(&self, mut keep: u64) -> Result<u64> {
        let last = Link { version: self.head.order, seq: self.head.last.seq };
        let mut next = self.part(last, last.seq)?;
        while let Some(part) = next {
            match &part.source {
                PartSource::Layer(layer) => {
                    for offset in layer.offsets(self.channel, self.range.clone(), true, usize::MAX) {
                        let record = |_: &Bytes, record: &Record<'_>| {
                            Ok((record.encoded_len() as u64, record.mark.seq))
                        };
                        let (len, seq) = layer.log.record(offset, record)?;
                        if keep <= len {
                            return Ok(seq - 1);
                        }
                        keep -= len;
                    }
                }
                PartSource::Segment(segment, entry) if keep <= entry.bytes() => {
                    return segment.beyond(entry, keep, self.head.trimmed.seq);
                }
                PartSource::Segment(_, entry) => keep -= entry.bytes(),
            }
            next = self.part(part.prev, part.first_seq - 1)?;
        }
        Ok(0)
    }

    fn read_down(&self, visit: &mut Visit<'_>) -> Result<()> {
        let end = *self.range.end();
        // The newest part that begins at or before the end of the range.
        let mut next = self.walk(end, |part| part.first_seq <= end)?;
        while let Some(part) = next {
            if self.read_part(&part, *self.range.start(), visit)?.is_break()
                || part.first_seq <= *self.range.start()
                || part.prev.seq < *self.range.start()
            {
                return Ok(());
            }
            next = self.part(part.prev, part.first_seq - 1)?;
        }
        Ok(())
    }

    fn read_up(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut below = *self.range.start() - 1;
        while below < *self.range.end() {
            // The oldest part that ends above.
            let Some(part) = self.walk(below + 1, |part| part.prev.seq <= below)? else { return Ok(()) };
            let mut last = below;
            let broken = self.read_part(&part, below + 1, &mut |bytes, record| {
                last = record.mark.seq;
                visit(bytes, record)
            })?;
            // Of a sealed part blocks may have been skipped.
            if let PartSource::Segment(_, entry) = &part.source
                && self.times != EVER
            {
                last = last.max(entry.extent.last_seq);
            }
            if broken.is_break() || last <= below {
                return Ok(());
            }
            below = last;
        }
        Ok(())
    }

    /// Walks from the newest part towards `seq`, until `found`: by jumps where they don't lead beyond it.
    fn walk(&self, seq: u64, found: impl Fn(&ChannelPart<'v>) -> bool) -> Result<Option<ChannelPart<'v>>> {
        let last = Link { version: self.head.order, seq: self.head.last.seq };
        let mut next = self.part(last, seq)?;
        while let Some(part) = next {
            if found(&part) {
                return Ok(Some(part));
            }
            let link = if part.jump.version > 0 && part.jump.seq >= seq { part.jump } else { part.prev };
            next = self.part(link, seq)?;
        }
        Ok(None)
    }

    /// The part that holds the message that a link names. If that can't be read, the newest older part that still ends at
    /// `seq` or above it.
    fn part(&self, link: Link, seq: u64) -> Result<Option<ChannelPart<'v>>> {
        // What was trimmed may be gone with its file.
        if link.version == 0 || link.seq <= self.head.trimmed.seq {
            return Ok(None);
        }
        let active = &self.view.moment.active;
        if link.version > active.start.version {
            return self.layer_part(active, link.version).map(Some);
        }
        match self.view.moment.files.locate(link.version) {
            Some(Place::Frozen(layer)) => self.layer_part(layer, link.version).map(Some),
            Some(Place::Sealed(at, place)) => {
                let segment = place.segment.as_ref().map_err(Error::clone);
                let opened = segment.and_then(|segment| self.segment_part(segment));
                match opened {
                    Ok(Some(part)) if part.has(link.seq) || fault(116) => Ok(Some(part)),
                    Ok(Some(part)) => Err(part.misled(self.channel, link)),
                    Ok(None) => Err(missing(self.view, self.channel, link.version)),
                    Err(error @ Error::Corruption { .. }) if !fault(97) => {
                        self.older_part(at, seq, error).map(Some)
                    }
                    Err(error) => Err(error),
                }
            }
            None => Err(missing(self.view, self.channel, link.version)),
        }
    }

    fn layer_part(&self, layer: &'v Layer, version: u64) -> Result<ChannelPart<'v>> {
        let (first_seq, previous) = layer
            .chain_start(self.channel)
            .ok_or_else(|| layer.log.corrupt(0, missing(self.view, self.channel, version).to_string()))?;
        let prev = Link { version: previous.0, seq: previous.1 };
        Ok(ChannelPart { source: PartSource::Layer(layer), first_seq, prev, jump: Link::default() })
    }

    fn segment_part(&self, segment: &'v Segment) -> Result<Option<ChannelPart<'v>>> {
        let Some(entry) = segment.find(self.channel)? else { return Ok(None) };
        let Extent { first_seq, chain, .. } = entry.extent;
        let source = PartSource::Segment(segment, entry);
        Ok(Some(ChannelPart { source, first_seq, prev: chain.prev, jump: chain.jump }))
    }

    /// The newest part in segments before `at` that ends at `seq` or above it; what lies in between is `error`'s.
    fn older_part(&self, at: usize, seq: u64, error: Error) -> Result<ChannelPart<'v>> {
        for place in self.view.moment.files.segments[..at].iter().rev() {
            let Ok(segment) = &place.segment else { continue };
            match segment.extent(self.channel) {
                Ok(Some(extent)) if extent.last_seq >= seq => {
                    let part = self.segment_part(segment)?;
                    return part.ok_or(error);
                }
                // What is wanted lies above, in what can't be read.
                Ok(Some(_)) => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        Err(error)
    }

    /// Reads what a part holds of the range from `from` on. A gap within the part may hold both that and the range's end.
    fn read_part(&self, part: &ChannelPart<'v>, from: u64, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        match &part.source {
            PartSource::Layer(layer) => {
                let range = from..=*self.range.end();
                let offsets = layer.offsets(self.channel, range, self.reverse, self.limit);
                read_log(&layer.log, &offsets, visit)
            }
            PartSource::Segment(segment, entry) => {
                let seqs = from..=*self.range.end();
                segment.read(entry, &seqs, &self.times, self.reverse, visit)
            }
        }
    }
}

fn read_log(log: &LogFile, offsets: &[u64], visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
    for offset in offsets {
        if log.record(*offset, &mut *visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
