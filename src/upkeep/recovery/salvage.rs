//! Replaying what is whole of a log segment that is damaged, as if the commits that are lost had never been.
//!
//! A change that rests on something lost is left out. A message is not such a change: its record says all. Ids whose names are
//! lost get the empty name, which nobody has.

use bytes::Bytes;

use super::Damage;
use super::replay::Replay;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::change::Change;
use crate::files::log::{self, Frame, FrameKind, GAP, HEADER, LogSalvage, LogScan};
use crate::files::record::Record;
use crate::kernel::{Counts, Kernel, Layer};
use crate::model::Table;
use crate::model::codec::Reader;
use crate::model::ids::{MAX_IDS, Named};
use crate::model::image::Image;
use crate::model::key::TableKey;
use crate::model::membership::Membership;
use crate::model::state::State;

/// A name takes at least so many bytes in the log: what is lost can't have held more names.
const LEAST_NAME: u64 = 4;
/// No store comes to such a version: a frame that says so is forged, and nothing could follow it.
const MOST_VERSION: u64 = u64::MAX / 2;

/// Puts the whole commits of the newest layer's log segment in, and notes what is lost.
pub fn salvage(kernel: &Kernel, end: Option<u64>, damage: &mut Damage) -> Result<LogScan> {
    let log = kernel.moment().active.log.clone();
    let bytes = log.read_all()?;
    let (mut left_out, mut next) = (0, HEADER);
    let LogSalvage { scan, holes, open } = log::salvage(&log, &bytes, end, &mut |frame| {
        let follows = frame.start() == next;
        left_out += commit(kernel, frame, follows, damage);
        next = frame.end;
    });
    damage.open_end = open;
    for at in holes {
        damage.note(&log.corrupt(at, "no valid frame"));
    }
    if left_out > 0 {
        damage.note(&log.corrupt(0, format!("{left_out} changes rest on commits that are lost")));
    }
    Ok(scan)
}

/// Puts a commit in, and tells how many of its changes could not be. If its frame follows the one before, a gap in versions
/// may be that of a batch that was run ahead.
fn commit(kernel: &Kernel, frame: &Frame<'_>, follows: bool, damage: &mut Damage) -> u64 {
    let before = kernel.moment().counts;
    let first = frame.header.first_version;
    if first > MOST_VERSION {
        return frame.header.count.into();
    }
    if first > before.version.saturating_add(1) {
        if !follows || first - before.version > GAP + 1 {
            damage.commits.push((before.version + 1, Some(first - 1)));
        }
        let counts = Counts { version: first - 1, ..before };
        kernel.replayed(counts);
        kernel.roll(Arc::new(Layer::new(kernel.moment().active.log.clone(), counts)));
    }
    // Whatever a frame is, it says which version comes next.
    if frame.header.kind != FrameKind::Commit || first <= before.version {
        return 0;
    }
    let moment = kernel.moment();
    let layer = moment.active.clone();
    let mut replay = Replay {
        kernel,
        layer: &layer,
        counts: moment.counts,
        keep: false,
        version: first,
        upto: u64::MAX,
        salvage: true,
    };
    let left_out = replay.changes(frame);
    let counts = replay.counts;
    layer.replayed(counts.version);
    kernel.replayed(counts);
    left_out
}

impl Replay<'_> {
    /// Applies the changes of a commit that can be, and tells how many can't.
    fn changes(&mut self, frame: &Frame<'_>) -> u64 {
        let (mut reader, mut left_out) = (Reader::new(frame.body), 0);
        for done in 0..frame.header.count {
            let at = frame.body_offset + reader.position() as u64;
            match Change::decode(&mut reader) {
                Some(change) => left_out += u64::from(self.apply(&change, at).is_none()),
                None => return left_out + u64::from(frame.header.count - done),
            }
        }
        left_out
    }

    /// Sees to it that there are the names up to an id. `None` if there can't be so many.
    pub fn know(&mut self, named: Named, id: u32) -> Option<()> {
        let more = u64::from(id.saturating_sub(self.counts.names(named)));
        // A channel comes with a change.
        let unmade = named == Named::Channel && u64::from(id) >= self.counts.version;
        if unmade || id >= MAX_IDS - 1 || more > self.layer.log.header.capacity / LEAST_NAME {
            return None;
        }
        while self.counts.names(named) <= id {
            self.layer.put_name(named, Bytes::new());
            match named {
                Named::Channel => self.counts.channels += 1,
                Named::User => self.counts.users += 1,
            }
        }
        Some(())
    }

    /// A message after commits that are lost.
    pub fn late_message(&mut self, record: &Record<'_>, offset: u32) -> Option<()> {
        let Record { channel, sender, mark, version, .. } = *record;
        self.counts.version += 1;
        self.know(Named::Channel, channel.0)?;
        self.know(Named::User, sender.0)?;
        let head = self.head(channel);
        let later =
            version == self.counts.version && mark.seq > head.last.seq && mark.ordinal >= head.last.ordinal;
        let begun = self.layer.chain_start(channel).is_some();
        if !later || begun && self.layer.offset(channel, mark.seq - 1).is_none() {
            return None;
        }
        self.place(record, &head, offset);
        Some(())
    }

    /// Whether a patch may be applied to what there is of a row: what makes a membership sets all of it.
    pub fn may_patch<T: Table>(&mut self, key: T::Key, before: Option<&T>, fields: &[u8]) -> bool {
        let (channel, user) = key.ids();
        let known = channel.is_none_or(|channel| self.know(Named::Channel, channel.0).is_some())
            && user.is_none_or(|user| self.know(Named::User, user.0).is_some());
        let sets_all = fields.first() == Some(&0);
        known && (before.is_some() || sets_all || <T as Image>::TABLE != Membership::TABLE)
    }
}
