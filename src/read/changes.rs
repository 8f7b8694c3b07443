//! What changed in a channel after its messages were sent, in order of versions.

use std::collections::BinaryHeap;

use bytes::Bytes;

use super::At;
use super::alterations::{has_expired, is_erased_edit};
use crate::error::Result;
use crate::kernel::View;
use crate::model::Table;
use crate::model::alteration::Alteration;
use crate::model::annotation::Annotation;
use crate::model::key::{ChannelSeq, MessageSlot};

/// A change of a message after it was sent. Made by [`ChannelChanges::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MessageChange {
    /// The version of the change.
    pub version: u64,
    /// The seq of the message.
    pub seq: u64,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed of a message, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was edited.
    #[non_exhaustive]
    Edited {
        /// Its payload now.
        payload: Bytes,
    },
    /// It was retracted.
    Retracted,
    /// It was erased.
    Erased,
    /// It expired ([`Draft::expires`](crate::Draft::expires)).
    Expired,
    /// Something is kept with it under a key.
    #[non_exhaustive]
    Annotated {
        /// The key.
        key: Bytes,
        /// What is kept.
        value: Bytes,
    },
    /// What was kept with it under a key was removed.
    #[non_exhaustive]
    Unannotated {
        /// The key.
        key: Bytes,
    },
}

/// A question for what changed in a channel. Made by [`Store::changes`](crate::Store::changes).
#[derive(Clone, Debug)]
#[must_use]
pub struct ChannelChanges<'a> {
    at: At<'a>,
    channel: Vec<u8>,
    since: u64,
    limit: usize,
}

impl<'a> ChannelChanges<'a> {
    pub(crate) fn new(at: At<'a>, channel: &[u8]) -> Self {
        ChannelChanges { at, channel: channel.into(), since: 0, limit: usize::MAX }
    }

    /// Only changes after this version: that of the last change that was told, or the one that an entry of a list had
    /// ([`Versions::content`](crate::Versions::content)). An update that says start over ends the meaning of all versions
    /// from before.
    pub fn since(mut self, version: u64) -> Self {
        self.since = version;
        self
    }

    /// At most so many changes, the oldest ones.
    pub fn limit(mut self, changes: usize) -> Self {
        self.limit = changes;
        self
    }

    /// The changes, oldest first. What changed several times is told once, as it is now, at its last change.
    ///
    /// Costs a step for each message and annotation that changed since, also for those that the limit cuts off, but memory
    /// for what is told only. Where nothing changed since, no file is read.
    pub fn list(self) -> Result<Vec<MessageChange>> {
        let view = self.at.view()?;
        let Some(channel) = view.channel_id(&self.channel)? else { return Ok(Vec::new()) };
        if view.head_of(channel).content <= self.since || self.limit == 0 {
            return Ok(Vec::new());
        }
        let trimmed = view.head_of(channel).trimmed.seq;
        let mut oldest = Oldest { limit: self.limit, trimmed, kept: BinaryHeap::new() };
        let first = ChannelSeq { channel, seq: 0 };
        oldest.add::<Alteration>(&view, first, self.since, |at, row| {
            Ok((!is_erased_edit(&view, &row)?).then_some((at.seq, ChangedRow::Alteration(row))))
        })?;
        let first = MessageSlot { channel, seq: 0, slot: 0 };
        oldest.add::<Annotation>(&view, first, self.since, |at, row| {
            Ok(Some((at.seq, ChangedRow::Annotation(row))))
        })?;
        oldest.finish().into_iter().map(|found| told(&view, found)).collect()
    }
}

/// A row that changed. Long values are loaded once it is known to be told.
pub(super) enum ChangedRow {
    Alteration(Alteration),
    Annotation(Annotation),
}

/// A change as it is told.
pub(super) fn told(view: &View, ByVersion { version, seq, row }: ByVersion) -> Result<MessageChange> {
    let kind = match row {
        ChangedRow::Alteration(row) if row.expired || has_expired(view, &row) => ChangeKind::Expired,
        ChangedRow::Alteration(row) if row.erased => ChangeKind::Erased,
        ChangedRow::Alteration(row) if row.retracted => ChangeKind::Retracted,
        ChangedRow::Alteration(row) => ChangeKind::Edited { payload: view.bytes_of(&row.payload)? },
        ChangedRow::Annotation(row) if row.value.is_empty() => ChangeKind::Unannotated { key: row.key },
        ChangedRow::Annotation(row) => {
            ChangeKind::Annotated { value: view.bytes_of(&row.value)?, key: row.key }
        }
    };
    Ok(MessageChange { version, seq, kind })
}

/// A changed row, ordered by its version, which no other has.
pub(super) struct ByVersion {
    pub(super) version: u64,
    /// The seq of the message.
    pub(super) seq: u64,
    pub(super) row: ChangedRow,
}

impl PartialEq for ByVersion {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for ByVersion {}

impl PartialOrd for ByVersion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByVersion {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.version.cmp(&other.version)
    }
}

/// The oldest of many changes.
struct Oldest {
    limit: usize,
    /// Nothing is told of messages up to this seq.
    trimmed: u64,
    /// The newest one on top.
    kept: BinaryHeap<ByVersion>,
}

impl Oldest {
    /// Adds the rows of a group that are newer than `since`, of those that tell a change.
    fn add<T: Table>(
        &mut self,
        view: &View,
        first: T::Key,
        since: u64,
        changed: impl Fn(T::Key, T) -> Result<Option<(u64, ChangedRow)>>,
    ) -> Result<()> {
        let mut rows = view.scan::<T>(first, since)?;
        while let Some((at, row)) = rows.next()? {
            let version = row.version();
            let full = self.kept.len() == self.limit;
            if full && self.kept.peek().is_some_and(|newest| newest.version < version) {
                continue;
            }
            let Some((seq, row)) = changed(at, row)?.filter(|(seq, _)| *seq > self.trimmed) else { continue };
            self.kept.push(ByVersion { version, seq, row });
            if full {
                self.kept.pop();
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<ByVersion> {
        self.kept.into_sorted_vec()
    }
}

impl View {
    /// As [`Store::changes`](crate::Store::changes), as of this view.
    pub fn changes(&self, channel: impl AsRef<[u8]>) -> ChannelChanges<'_> {
        ChannelChanges::new(At::View(self), channel.as_ref())
    }
}
