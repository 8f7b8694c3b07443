//! What was erased and may still be in a file, and in which (DESIGN 9.5). When it is to go stands in `overdue`.
//!
//! How far erased bytes are gone is a version. Which messages were erased after it is known from the rows that are newer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::files::Upkeep;
use crate::error::Result;
use crate::files::log;
use crate::files::sealed::Kind;
use crate::files::segment::{EVER, Segment};
use crate::model::alteration::Alteration;
use crate::model::ids::{ChannelId, VALUES};
use crate::model::key::ChannelSeq;

/// A record without a payload takes about so many bytes.
const STUB: u64 = 40;
/// Less than so many bytes of payloads that nobody reads are no reason to write a segment anew.
const LEAST: u64 = 64 << 10;

/// What erased messages still wait for. Made by [`Store::erasing`](crate::Store::erasing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Erasing {
    /// Messages that were erased and not yet looked for in all files, those apart that were erased with their sender.
    pub messages: u64,
    /// When the oldest of them was erased, in Unix milliseconds; `None` if none waits, or if that was in another process and is not
    /// known.
    pub since: Option<i64>,
    /// By when its bytes are to be gone from the directory; `None` if none waits, or if nobody erases in the background.
    pub until: Option<i64>,
    /// The files of the directory that hold a payload of one of them, or may hold what it said before an edit.
    pub files: Vec<String>,
    /// Files that were removed, and that this process still has open for views, feeds, or payloads that somebody holds.
    pub open: Vec<String>,
}

/// Messages that wait.
#[derive(Default)]
pub struct Waiting {
    channels: BTreeMap<ChannelId, BTreeSet<u64>>,
    /// Deleted channels in which messages waited: their rows may be gone.
    dead: BTreeSet<ChannelId>,
    /// What some users sent up to this version was erased with them, or 0.
    sent: u64,
    /// Whether one of them was edited before: then rows, and values beside them, hold payloads too.
    pub edited: bool,
}

impl Waiting {
    /// How many there are, those of deleted channels and those that were erased with their senders apart.
    pub fn messages(&self) -> u64 {
        self.channels.values().map(|seqs| seqs.len() as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.dead.is_empty() && self.sent == 0
    }
}

impl Upkeep {
    /// The messages that were erased after a version.
    pub fn waiting(&self, after: u64) -> Result<Waiting> {
        let view = self.kernel.view()?;
        let (mut waiting, mut channels) = (Waiting::default(), Vec::new());
        let users = self.kernel.fates.last_erased();
        if users > after {
            // Which segments hold what they sent is not known, nor what of it was edited.
            (waiting.sent, waiting.edited) = (users, true);
        }
        self.kernel.each_further(ChannelId(0), usize::MAX, &mut |channel, head| {
            if head.erased > 0 && head.content > after {
                channels.push((channel, head.dead()));
            }
        });
        for (channel, dead) in channels {
            if dead {
                waiting.dead.insert(channel);
                waiting.edited = true;
                continue;
            }
            let mut rows = view.scan::<Alteration>(ChannelSeq { channel, seq: 0 }, after)?;
            while let Some((key, row)) = rows.next()? {
                if row.erased && row.version > after {
                    waiting.channels.entry(channel).or_default().insert(key.seq);
                    waiting.edited |= row.edited;
                }
            }
        }
        Ok(waiting)
    }

    /// The message segments that hold a payload of a message that waits.
    pub fn holding(&self, waiting: &Waiting) -> Result<BTreeSet<u64>> {
        let files = self.kernel.moment().files.clone();
        let mut found = BTreeSet::new();
        for segment in files.segments.iter().filter_map(|part| part.segment.as_ref().ok()) {
            if holds(segment, waiting)? {
                found.insert(segment.id());
            }
        }
        Ok(found)
    }

    /// The message segments of which payloads of trimmed and deleted messages make half.
    pub fn half_dead(&self) -> Result<BTreeSet<u64>> {
        let files = self.kernel.moment().files.clone();
        let mut found = BTreeSet::new();
        for segment in files.segments.iter().filter_map(|part| part.segment.as_ref().ok()) {
            let (mut all, mut dead) = (0, 0);
            segment.each_channel(&mut |entry| {
                let (bytes, extent) = (entry.bytes(), entry.extent);
                all += bytes;
                let gone = entry.channel != VALUES
                    && self.kernel.newest_head(entry.channel).trimmed.seq >= extent.last_seq;
                if gone {
                    let messages = extent.last_seq - extent.first_seq + 1;
                    dead += bytes.saturating_sub(messages.saturating_mul(STUB));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if dead >= LEAST && dead >= all / 2 {
                found.insert(segment.id());
            }
        }
        Ok(found)
    }

    /// What waits, and where.
    pub fn erasing(&self, after: u64) -> Result<Erasing> {
        let waiting = self.waiting(after)?;
        let mut files = Vec::new();
        if !waiting.is_empty() {
            let moment = self.kernel.moment();
            for layer in moment.files.frozen.iter().chain([&moment.active]) {
                let in_layer = |(channel, seqs): (&ChannelId, &BTreeSet<u64>)| {
                    seqs.iter().any(|seq| layer.offset(*channel, *seq).is_some())
                };
                if waiting.edited || waiting.channels.iter().any(in_layer) {
                    files.push(log::name(layer.log.header.segment));
                }
            }
            // A log segment may have several layers, one after another.
            files.dedup();
            files.extend(self.holding(&waiting)?.into_iter().map(|id| Kind::Segment.name(id)));
            if waiting.edited {
                files.extend(self.manifest().runs.iter().map(|run| Kind::Run.name(run.id)));
            }
        }
        let open = self.disk.still_open();
        Ok(Erasing { messages: waiting.messages(), files, open, ..Erasing::default() })
    }
}

/// Whether a segment holds a payload of a message that waits.
fn holds(segment: &Segment, waiting: &Waiting) -> Result<bool> {
    if segment.versions().0 <= waiting.sent {
        return Ok(true);
    }
    for channel in &waiting.dead {
        let entry = segment.find(*channel)?;
        let stubs = |entry: &crate::files::segment::Entry| {
            (entry.extent.last_seq - entry.extent.first_seq + 1).saturating_mul(STUB)
        };
        if entry.is_some_and(|entry| entry.bytes() > stubs(&entry)) {
            return Ok(true);
        }
    }
    for (channel, seqs) in &waiting.channels {
        let Some(entry) = segment.find(*channel)? else { continue };
        for seq in seqs.range(entry.extent.first_seq..=entry.extent.last_seq) {
            let mut found = false;
            let _ = segment.read(&entry, &(*seq..=*seq), &EVER, false, &mut |_, record| {
                found |= !record.payload.is_empty();
                Ok(ControlFlow::Break(()))
            })?;
            if found {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
