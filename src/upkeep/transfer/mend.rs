//! Heads of a damaged store, as far as they follow from what is left, and what is missing.
//!
//! Heads and rows lie in the same files, messages in others: so a head may be older than the messages that are left, or tell of
//! ones that are gone. Invariant: afterwards each record that is left lies within its head and under ids that there are, and the
//! order of each head is the version of a record, or 0.

use std::collections::BTreeMap;

use super::MissingMessages;
use super::pardon::Pardon;
use super::records::Records;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::kernel::scan::{LostNotes, Scan};
use crate::kernel::{Counts, Kernel, View};
use crate::model::channel::Channel;
use crate::model::head::{BUFFERED_WINDOW, Head, PackedHead};
use crate::model::ids::{ChannelId, MAX_IDS, VALUES};
use crate::model::image::{Image, Value};
use crate::model::key::TableKey;
use crate::model::state::State;
use crate::model::{TABLES, Table, WithTable, with_table};

/// Ids may be so far beyond the names that are known, or half as many as those: what tells of them takes memory.
const UNKNOWN: u32 = 1 << 20;

/// Looks for what is missing in a view of a damaged store, and mends its heads. It is nobody else's.
pub struct Mend<'v> {
    view: &'v View,
    counts: Counts,
    /// The seq and the version of the last record of each channel.
    last: BTreeMap<ChannelId, (u64, u64)>,
    /// Ids from these on are none that may be known only by what is left.
    bounds: Counts,
    /// Ranges of seqs that are missing.
    pub missing: Vec<(ChannelId, u64, u64)>,
}

impl<'v> Mend<'v> {
    /// Begins.
    pub fn new(view: &'v View) -> Mend<'v> {
        let counts = view.moment.counts;
        let bound = |known: u32| known.saturating_add((known / 2).max(UNKNOWN)).min(MAX_IDS - 1);
        let bounds = Counts { channels: bound(counts.channels), users: bound(counts.users), ..counts };
        Mend { view, counts, last: BTreeMap::new(), bounds, missing: Vec::new() }
    }

    fn kernel(&self) -> &'v Kernel {
        &self.view.kernel
    }

    /// Notes in `lost` which rows can't be read.
    pub fn look_at_rows(&self, lost: &LostNotes) -> Result<()> {
        let look = |table| with_table(table, Look { view: self.view, lost }).unwrap_or(Ok(()));
        TABLES.iter().try_for_each(|(table, _)| look(*table))
    }

    /// Mends heads by the rows that are left. Numbers of members are counted anew.
    pub fn heads_by_rows(&mut self) -> Result<()> {
        for channel in (0..self.counts.channels).map(ChannelId) {
            let head = self.kernel().newest_head(channel);
            put(self.kernel(), channel, Head { members: 0, ..head });
        }
        let mut heads = MendHeads { kernel: self.kernel(), counts: self.counts, bounds: self.bounds };
        for (table, _) in TABLES {
            with_table(*table, Follow { view: self.view, heads: &mut heads }).unwrap_or(Ok(()))?;
        }
        self.counts = heads.counts;
        Ok(())
    }

    /// Mends heads by the records that are left, and notes what is missing before and between them.
    pub fn heads_by_records(&mut self, pardon: &mut Pardon) -> Result<()> {
        let mut records = Records::new(self.view);
        while let Some(bytes) = records.next(pardon)? {
            let Some(record) = Record::decode(&bytes).filter(|record| record.channel != VALUES) else {
                continue;
            };
            if record.channel.0 >= self.bounds.channels || record.sender.0 >= self.bounds.users {
                let log = &self.view.moment.active.log.path;
                let what = format!(
                    "a message of channel {} and user {}, which can't be",
                    record.channel.0, record.sender.0
                );
                pardon.note(Error::corrupt(log.parent().unwrap_or(log), 0, what))?;
                continue;
            }
            self.record(&record);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) {
        let Record { channel, sender, mark, version, .. } = *record;
        self.counts.channels = self.counts.channels.max(channel.0 + 1);
        self.counts.users = self.counts.users.max(sender.0 + 1);
        let head = self.kernel().newest_head(channel);
        if mark.seq > head.last.seq {
            let after = match record.quiet > 0 {
                true => head.after_quiet(mark, version),
                false => head.after_loud(mark, version),
            };
            let changed = head.changed.max(version);
            put(self.kernel(), channel, Head { changed, ..after });
        }
        if mark.seq <= head.trimmed.seq {
            return;
        }
        let before = self.last.insert(channel, (mark.seq, version)).unwrap_or((head.trimmed.seq, 0));
        if mark.seq > before.0 + 1 && !self.is_gap(before, (mark.seq, version), channel) {
            self.missing.push((channel, before.0 + 1, mark.seq - 1));
        }
    }

    /// Whether the seqs between two records were never given.
    fn is_gap(&self, before: (u64, u64), after: (u64, u64), channel: ChannelId) -> bool {
        let losses = self.view.moment.files.losses.iter();
        let between =
            losses.filter(|loss| (before.1..after.1).contains(&loss.version) && channel.0 < loss.channels);
        after.0 - before.0 - 1 == between.count() as u64 * BUFFERED_WINDOW
    }

    /// Notes what is missing at the ends of channels. Heads then name the last record that is left. Returns how many channels and
    /// users there are, and the version.
    pub fn ends(&mut self) -> Counts {
        for channel in (0..self.counts.channels).map(ChannelId) {
            let head = self.kernel().newest_head(channel);
            let (seq, version) = self.last.get(&channel).copied().unwrap_or((head.trimmed.seq, 0));
            if seq < head.last.seq {
                self.missing.push((channel, seq + 1, head.last.seq));
                put(self.kernel(), channel, Head { order: version, ..head });
            }
        }
        self.counts
    }
}

/// Names the channels of what is missing.
pub fn named(
    missing: &[(ChannelId, u64, u64)],
    mut name: impl FnMut(ChannelId) -> Result<bytes::Bytes>,
) -> Result<Vec<MissingMessages>> {
    let mut sorted = missing.to_vec();
    sorted.sort_unstable();
    sorted
        .iter()
        .map(|(channel, from, to)| Ok(MissingMessages { channel: name(*channel)?, from: *from, to: *to }))
        .collect()
}

fn put(kernel: &Kernel, channel: ChannelId, head: Head) {
    kernel.put_head(channel, &PackedHead::from(&head), head.changed, false);
}

/// Reads the rows of a table, and notes which can't be.
struct Look<'v, 'l> {
    view: &'v View,
    lost: &'l LostNotes,
}

impl WithTable for Look<'_, '_> {
    type Out = Result<()>;

    fn table<T: Table>(self) -> Result<()> {
        let mut scan = Scan::<T>::whole(self.view, Some(self.lost.clone()))?;
        let mut row = T::default();
        while scan.next_into(&mut row)?.is_some() {}
        Ok(())
    }
}

/// Heads, to which what follows from a row is added. No row can make one older.
struct MendHeads<'k> {
    kernel: &'k Kernel,
    counts: Counts,
    bounds: Counts,
}

impl State for MendHeads<'_> {
    fn head(&self, channel: ChannelId) -> Head {
        self.kernel.newest_head(channel)
    }

    fn set_head(&mut self, channel: ChannelId, head: Head) {
        let before = self.head(channel);
        let (changed, content) = (head.changed.max(before.changed), head.content.max(before.content));
        put(self.kernel, channel, Head { changed, content, kept: head.kept.max(before.kept), ..head });
    }

    fn put<T: Table>(&mut self, _: T::Key, _: T) {}
}

/// Adds to heads what follows from the rows of a table.
struct Follow<'v, 'h, 'k> {
    view: &'v View,
    heads: &'h mut MendHeads<'k>,
}

impl WithTable for Follow<'_, '_, '_> {
    type Out = Result<()>;

    fn table<T: Table>(self) -> Result<()> {
        let Follow { view, heads } = self;
        // They are noted already.
        let mut scan = Scan::<T>::whole(view, Some(LostNotes::default()))?;
        while let Some((key, row)) = scan.next()? {
            let (channel, user) = key.ids();
            if let Some(user) = user.filter(|user| user.0 < heads.bounds.users) {
                heads.counts.users = heads.counts.users.max(user.0 + 1);
            }
            let Some(channel) = channel.filter(|channel| channel.0 < heads.bounds.channels) else { continue };
            heads.counts.channels = heads.counts.channels.max(channel.0 + 1);
            let head = heads.head(channel);
            let older = T::TABLE == Channel::TABLE && row.version() < head.kept;
            if head.dead() || older {
                continue;
            }
            let mut last = head.last;
            row.each_field(&mut |_, value| {
                if let Value::Mark(mark) = value {
                    last = last.max(mark);
                }
            });
            last.ordinal = last.ordinal.max(head.last.ordinal);
            if last != head.last {
                // Somebody saw a message there, so that its seq is not given again.
                put(heads.kernel, channel, Head { last, changed: head.changed.max(row.version()), ..head });
            }
            T::follow(None, &row, key, heads);
        }
        Ok(())
    }
}
