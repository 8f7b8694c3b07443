//! Replaying a log segment: each change must follow from what was before it, whatever the checksums say. What follows from
//! a change is the model's; nothing is decided here.

use bytes::Bytes;

use crate::env::fault;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::change::Change;
use crate::files::log::{self, Frame, FrameKind, GAP, HEADER, Header, LogScan};
use crate::files::record::Record;
use crate::kernel::{Counts, Kernel, Layer, values};
use crate::model::fate::UserFate;
use crate::model::follow::follow_message;
use crate::model::head::{Head, PackedHead};
use crate::model::ids::{ChannelId, LogId, MAX_IDS, Named, UserId, VALUES};
use crate::model::image::{Image, patched};
use crate::model::key::{Key, TableKey, UserChannel};
use crate::model::message::Placed;
use crate::model::position::Position;
use crate::model::state::State;
use crate::model::{Table, WithTable, with_table};

/// Reads the newest layer's log segment and puts its commits in. `partial` is set if later commits may fail to follow while
/// those before are to be seen. Commits that end after `upto` are not put in: nobody may see them yet.
pub fn replay(kernel: &Kernel, end: Option<u64>, partial: bool, upto: u64) -> (Counts, Result<LogScan>) {
    let moment = kernel.moment();
    let layer = moment.active.clone();
    let counts = moment.counts;
    let mut replay =
        Replay { kernel, layer: &layer, counts, keep: partial, version: 0, upto, salvage: false };
    let scan = replay.log(end);
    let counts = replay.counts;
    layer.replayed(counts.version);
    kernel.replayed(counts);
    (counts, scan)
}

/// Replays the frames of one segment.
pub struct Replay<'a> {
    pub kernel: &'a Kernel,
    pub layer: &'a Arc<Layer>,
    /// How far the store has come, in whole commits.
    pub counts: Counts,
    /// Whether a commit that does not follow must leave no trace.
    pub keep: bool,
    /// The first version of the present commit.
    pub version: u64,
    /// Later commits are left out.
    pub upto: u64,
    /// Whether commits before may be missing: what a change rests on need not be there.
    pub salvage: bool,
}

impl Replay<'_> {
    fn log(&mut self, end: Option<u64>) -> Result<LogScan> {
        let log = &self.layer.log;
        let Header { base_version, channels, users, .. } = log.header;
        let start = Counts { version: base_version, channels, users, ..self.counts };
        if start != self.counts {
            return Err(log.corrupt(0, format!("begins after {start:?}, not {:?}", self.counts)));
        }
        let bytes = log.read_all()?;
        let scan = log::scan(log, &bytes, end, &mut |frame| self.frame(frame))?;
        log.note(&bytes[HEADER as usize..scan.end as usize], HEADER);
        Ok(scan)
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let log = &self.layer.log;
        if frame.end > self.upto {
            return Ok(());
        }
        // A batch that was run ahead begins above a gap.
        let gap = frame.header.first_version.checked_sub(self.counts.version + 1);
        let commit = frame.header.kind == FrameKind::Commit;
        if gap.is_none_or(|gap| gap > if commit { GAP } else { 0 }) {
            return Err(log.corrupt(frame.body_offset, "a frame's versions don't follow"));
        }
        if !commit {
            return Ok(());
        }
        self.version = frame.header.first_version;
        let before = self.counts;
        self.counts.version = self.version - 1;
        let mut reader = crate::model::codec::Reader::new(frame.body);
        for _ in 0..frame.header.count {
            let at = frame.body_offset + reader.position() as u64;
            let applied = Change::decode(&mut reader).and_then(|change| self.apply(&change, at));
            if applied.is_none() && !fault(85) {
                self.counts = before;
                return Err(log.corrupt(at, "a change is not valid"));
            }
        }
        if !reader.is_empty() || self.counts.version < self.version {
            self.counts = before;
            return Err(log.corrupt(frame.body_offset, "a commit has not the changes that it counts"));
        }
        Ok(())
    }

    /// Applies a change; `None` if it does not follow from what was before.
    pub fn apply(&mut self, change: &Change<'_>, at: u64) -> Option<()> {
        match *change {
            Change::Name { named, id, name } => self.name(named, id, name),
            Change::Message(record) if record.channel == VALUES => self.value(&record, at as u32 + 1),
            Change::Message(record) if self.salvage => self.late_message(&record, at as u32 + 1),
            Change::Message(record) => self.message(&record, at as u32 + 1),
            Change::Patch { table, wide, key, fields } => {
                self.counts.version += 1;
                with_table(table, PatchRow { replay: self, wide, key, fields })?
            }
            // What it belongs to came before it in the same commit.
            Change::Beside { .. } if self.counts.version < self.version => None,
            Change::Beside { table, key, fields } => {
                with_table(table, PatchRow { replay: self, wide: true, key, fields })?
            }
        }
    }

    fn name(&mut self, named: Named, id: u32, name: &[u8]) -> Option<()> {
        if self.salvage && id > self.counts.names(named) {
            self.know(named, id - 1)?;
        }
        let next = match named {
            Named::Channel => &mut self.counts.channels,
            Named::User => &mut self.counts.users,
        };
        if *next != id || id >= MAX_IDS - 1 {
            return None;
        }
        *next += 1;
        self.layer.put_name(named, Bytes::copy_from_slice(name));
        Some(())
    }

    /// What became of a user is in memory too.
    fn note_fate(&self, user: UserId) {
        let fate = self.layer.newest::<UserFate>(user);
        fate.iter().for_each(|fate| self.kernel.fates.put(user, fate));
    }

    fn value(&mut self, record: &Record<'_>, offset: u32) -> Option<()> {
        self.counts.version += 1;
        if record.version != self.counts.version || !values::is_value(record) {
            return None;
        }
        self.layer.put_value(record.version, offset);
        Some(())
    }

    fn message(&mut self, record: &Record<'_>, offset: u32) -> Option<()> {
        let Record { channel, sender, mark, version, .. } = *record;
        if !self.knows(UserChannel { user: sender, channel }) {
            return None;
        }
        let head = self.head(channel);
        let moment = self.kernel.moment();
        let seq = head.next_seq(channel, version, &moment.files.losses).ok()?;
        // A caller that says the seq has no gap after a loss.
        let seq = if head.last.seq.checked_add(1) == Some(mark.seq) { mark.seq } else { seq };
        self.counts.version += 1;
        if version != self.counts.version || mark != head.next_mark(seq, record.silent) {
            return None;
        }
        let loud = seq.checked_sub(head.loud().seq);
        if record.quiet > 0 && !(record.silent && Some(record.quiet) == loud) {
            return None;
        }
        self.place(record, &head, offset);
        Some(())
    }

    /// Puts a message in that follows from a head.
    pub fn place(&mut self, record: &Record<'_>, head: &Head, offset: u32) {
        let Record { channel, sender, mark, version, .. } = *record;
        let previous = head.previous();
        let placed = Placed { channel, sender, mark, quiet: record.quiet > 0, version, previous, offset };
        let named = [record.client_id, record.unique_id].into_iter().flatten().map(<[u8]>::len);
        let id_bytes = named.sum::<usize>() + record.id.map_or(0, |_| 8);
        self.layer.put_message(&placed, (record.payload.len() + id_bytes) as u64);
        follow_message(&placed, self);
    }
}

impl State for Replay<'_> {
    fn head(&self, channel: ChannelId) -> Head {
        self.kernel.newest_head(channel)
    }

    fn set_head(&mut self, channel: ChannelId, head: Head) {
        let head = PackedHead::from(&head);
        self.kernel.put_head(channel, &head, self.version, self.keep);
        self.layer.put_head(channel, head);
    }

    fn put<T: Table>(&mut self, key: T::Key, row: T) {
        self.layer.put_row(key, row, self.version, self.keep);
    }

    fn advance(&mut self, _: LogId, _: Option<&Position>, after: &Position) {
        self.counts.time = self.counts.time.max(after.time.unwrap_or_default());
    }

    fn knows(&self, key: impl TableKey) -> bool {
        self.counts.know(key)
    }
}

/// Applies a patch to a row of the table that it names.
struct PatchRow<'r, 'a, 'f> {
    replay: &'r mut Replay<'a>,
    wide: bool,
    key: Key,
    fields: &'f [u8],
}

impl WithTable for PatchRow<'_, '_, '_> {
    type Out = Option<()>;

    fn table<T: Table>(self) -> Option<()> {
        if self.wide != T::Key::WIDE {
            return None;
        }
        let (replay, key) = (self.replay, T::Key::from_raw(self.key));
        let before = match replay.layer.newest::<T>(key) {
            Some(row) => Some(row),
            None => replay.kernel.moment().row::<T>(key, u64::MAX).ok()?,
        };
        if replay.salvage && !replay.may_patch(key, before.as_ref(), self.fields) {
            return None;
        }
        let after = patched(before.clone(), self.fields, replay.counts.version)?;
        if !after.fits(key, replay) {
            return None;
        }
        T::follow(before.as_ref(), &after, key, replay);
        replay.put(key, after);
        if T::TABLE == UserFate::TABLE {
            replay.note_fate(UserId(self.key.a));
        }
        Some(())
    }
}
