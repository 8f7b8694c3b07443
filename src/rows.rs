//! Walking over a user's rows in all sources at once, newest source first, by channel.

use crate::error::Result;
use crate::state::Base;
use crate::table::{FLOOR, RowCursor};
use crate::types::{ChannelId, Row, UserId};

/// A merge of a user's rows: ascending by channel, each once, from the newest source that has it.
pub struct Rows<'a> {
    user: UserId,
    /// The rows of the active segment that are not behind, by channel; a copy, as only they can change.
    active: &'a [(ChannelId, Row)],
    base: &'a Base,
    runs: Vec<Source<'a>>,
    /// The first channel that is not behind.
    next: u32,
}

struct Source<'a> {
    cursor: RowCursor<'a>,
    current: Option<(ChannelId, Row)>,
}

impl<'a> Rows<'a> {
    /// Begins with the first row.
    pub fn new(user: UserId, active: &'a [(ChannelId, Row)], base: &'a Base) -> Result<Self> {
        let mut runs = Vec::with_capacity(base.runs.len());
        for run in base.runs.iter().rev() {
            let mut cursor = run.rows(user, ChannelId(0), 0);
            let current = cursor.next()?;
            runs.push(Source { cursor, current });
        }
        Ok(Rows { user, active, base, runs, next: 0 })
    }

    /// The first row of a channel from `from` on. Does not go back behind rows that [`Rows::next`] returned. Blocks of rows
    /// in between are not read.
    pub fn seek(&mut self, from: ChannelId) -> Result<Option<(ChannelId, Row)>> {
        self.next = self.next.max(from.0);
        let from = ChannelId(self.next);
        for source in &mut self.runs {
            if source.current.as_ref().is_some_and(|(channel, _)| *channel < from) {
                source.cursor.seek(from)?;
                source.current = source.cursor.next()?;
            }
        }
        self.active = &self.active[self.active.partition_point(|(channel, _)| *channel < from)..];
        let active = self.active.first().map(|(channel, row)| (*channel, row));
        let frozen =
            self.base.frozen.iter().rev().filter_map(|frozen| frozen.table.rows_of(self.user, from).next());
        let runs = self
            .runs
            .iter()
            .filter_map(|source| source.current.as_ref().map(|(channel, row)| (*channel, row)));
        // The first of several least ones, which is the newest source's.
        let best = active.into_iter().chain(frozen).chain(runs).min_by_key(|(channel, _)| *channel);
        // A floor is no channel's row, and comes last.
        Ok(best.filter(|(channel, _)| *channel != FLOOR).map(|(channel, row)| (channel, *row)))
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<(ChannelId, Row)>> {
        let row = self.seek(ChannelId(0))?;
        self.next = row.map_or(u32::MAX, |(channel, _)| channel.0 + 1);
        Ok(row)
    }
}

/// The channels in which a user's row is newer than `version`, and the version up to which tombstones were dropped.
pub fn changed(user: UserId, base: &Base, version: u64) -> Result<(Vec<ChannelId>, u64)> {
    let (mut channels, mut floor) = (Vec::new(), 0);
    for run in &base.runs {
        let mut cursor = run.rows(user, ChannelId(0), version);
        while let Some((channel, row)) = cursor.next()? {
            if channel == FLOOR {
                floor = floor.max(row.version);
            } else {
                channels.push(channel);
            }
        }
    }
    for frozen in &base.frozen {
        let rows = frozen.table.rows_of(user, ChannelId(0));
        channels.extend(rows.filter(|(_, row)| row.version > version).map(|(channel, _)| channel));
    }
    Ok((channels, floor))
}
