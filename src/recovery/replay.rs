//! Replaying a log segment: each change must follow from what was before it, whatever the checksums say.

use std::sync::Arc;

use crate::change::{Change, Key};
use crate::codec::Reader;
use crate::error::Result;
use crate::log::{self, Frame, FrameKind, LogFile, Scan};
use crate::stage::Overlay;
use crate::state::{Effects, Named, Published};
use crate::types::Mark;

/// Reads one log segment and publishes its commits.
pub fn replay(log: &Arc<LogFile>, end: Option<u64>, published: &Arc<Published>) -> Result<Scan> {
    let mut replay = Replay::new(log, published)?;
    log::scan(log, &log.read_all()?, end, &mut |frame| replay.frame(frame))
}

/// Replays the frames of one segment.
struct Replay {
    log: Arc<LogFile>,
    published: Arc<Published>,
    overlay: Overlay,
}

impl Replay {
    fn new(log: &Arc<LogFile>, published: &Arc<Published>) -> Result<Replay> {
        let overlay = Overlay::new(published.clone());
        if log.base_version != overlay.version() {
            let what = format!("begins behind version {}, not {}", log.base_version, overlay.version());
            return Err(log.corrupt(0, what));
        }
        Ok(Replay { log: log.clone(), published: published.clone(), overlay })
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let first = (self.overlay.names(Named::Channel), self.overlay.names(Named::User));
        if frame.header.first_version != self.overlay.version() + 1 {
            return Err(self.log.corrupt(frame.body_offset, "a frame's versions don't follow"));
        }
        if frame.header.kind != FrameKind::Commit {
            return Ok(());
        }
        let mut effects = Effects { first, ..Effects::default() };
        let mut reader = Reader::new(frame.body);
        for _ in 0..frame.header.count {
            let at = frame.body_offset + reader.position() as u64;
            let change = Change::decode(&mut reader).filter(|change| self.fits(change));
            let change = change.ok_or_else(|| self.log.corrupt(at, "a change is not valid"))?;
            self.overlay.apply(&change, at as u32 + 1, 0, &mut effects)?;
        }
        if !reader.is_empty() || effects.version == 0 {
            return Err(self.log.corrupt(frame.body_offset, "a commit has not the changes that it counts"));
        }
        self.published.0.write().publish(&effects);
        self.overlay.evict(0, &effects);
        Ok(())
    }

    /// Whether a change fits the state before it.
    fn fits(&self, change: &Change<'_>) -> bool {
        let known = |key: &Key| {
            key.channel.0 < self.overlay.names(Named::Channel) && key.user.0 < self.overlay.names(Named::User)
        };
        let within = |key: &Key, mark: &Mark| {
            let end = self.overlay.head(key.channel).last;
            mark.seq <= end.seq && mark.ordinal <= end.ordinal
        };
        match change {
            Change::NameChannel(_) | Change::NameUser(_) => true,
            Change::Message(record) => {
                let head = self.overlay.head(record.channel);
                known(&Key { channel: record.channel, user: record.sender })
                    && record.version == self.overlay.version() + 1
                    && self.overlay.next_seq(record.channel, &head).is_ok_and(|next| record.mark.seq == next)
                    && record.mark.ordinal == head.last.ordinal + u64::from(!record.silent)
            }
            Change::Join { key, base, read } => known(key) && within(key, base) && within(key, read),
            Change::Read { key, mark } | Change::Hide { key, mark } => known(key) && within(key, mark),
            Change::Leave { key, .. } | Change::Activate { key } => known(key),
        }
    }
}
