//! What upkeep commits: trims by retention, the ends of deleted users' memberships, and messages that expire.
//!
//! They are ordinary batches. To a replica they come by its log, so that whoever leads can ask for them (`overdue`).

use super::engine::Engine;
use crate::env::sync::atomic::Ordering;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::ids::ChannelId;
use crate::upkeep::retention::Retained;

/// How many channels are looked at, and messages or memberships ended, between commits.
const RETAIN: usize = 256;
/// How far beyond the last commit the clock is trusted in the background, in milliseconds.
const TRUSTED_MS: i64 = 3_600_000;

impl Engine {
    /// Trims channels that hold more than their policies say, of the next `most` channels.
    pub fn enforce_retention(&self, now: i64, most: usize) -> Result<Retained> {
        self.check_writable()?;
        let _span = tracing::debug_span!(target: "chanlog", "retention").entered();
        let retained = self.retain(now, most);
        self.tell();
        retained
    }

    fn retain(&self, now: i64, most: usize) -> Result<Retained> {
        let mut retained = Retained::default();
        let mut at = self.retention.lock();
        let mut left = most;
        while left > 0 && !retained.done {
            let part = left.min(RETAIN);
            let overdue = self.upkeep.overdue(at.0, part, now)?;
            retained.channels += overdue.looked;
            retained.trimmed += overdue.trims.len() as u64;
            if !overdue.trims.is_empty() {
                let submitted = self.write(&overdue.trims)?;
                self.syncer().wait(submitted.lsn, submitted.wait)?;
            }
            (at.0, retained.done) = (overdue.next.unwrap_or_default(), overdue.next.is_none());
            left -= part;
        }
        Ok(retained)
    }

    /// The commits that upkeep has to do and that a replica may get by its log alone: ends of deleted users' memberships, messages
    /// that expire, and the trims of the first channels that hold more than their policies say.
    pub fn overdue(&self, now: i64) -> Result<Batch> {
        self.kernel.check_open()?;
        let endings = self.upkeep.endings(RETAIN)?.batch;
        if !endings.is_empty() {
            return Ok(endings);
        }
        let due = self.upkeep.due_expiries(0, now, RETAIN)?.batch;
        if !due.is_empty() {
            return Ok(due);
        }
        let mut next = Some(ChannelId::default());
        while let Some(from) = next {
            let overdue = self.upkeep.overdue(from, RETAIN, now)?;
            if !overdue.trims.is_empty() {
                return Ok(overdue.trims);
            }
            next = overdue.next;
        }
        Ok(Batch::new())
    }

    /// The time as upkeep takes it in the background: a clock that is far beyond this process's last commit makes nothing older than
    /// that, and before a first commit nothing is told.
    fn trusted_ms(&self) -> Option<i64> {
        let committed = self.committed_at.load(Ordering::Relaxed);
        let now = self.options.env.unix_ms().min(committed.saturating_add(TRUSTED_MS));
        (committed != 0).then_some(now)
    }

    /// The same in the background, once after each sealing, and a part of the channels at once.
    fn retain_step(&self) -> Result<()> {
        let sealed = self.upkeep.manifest().runs.last().map(|run| run.id);
        let Some(now) = self.trusted_ms().filter(|_| self.retention.lock().1 != sealed) else {
            return Ok(());
        };
        loop {
            self.check_pace()?;
            if self.enforce_retention(now, RETAIN)?.done {
                self.retention.lock().1 = sealed;
                return Ok(());
            }
        }
    }

    /// Ends up to `most` memberships of deleted users.
    pub fn finish_deletions(&self, most: usize) -> Result<u64> {
        self.check_writable()?;
        let mut ended = 0;
        while ended < most as u64 {
            self.check_pace()?;
            let endings = self.upkeep.endings((most - ended as usize).min(RETAIN))?;
            if endings.batch.is_empty() {
                break;
            }
            let submitted = self.write(&endings.batch)?;
            self.syncer().wait(submitted.lsn, submitted.wait)?;
            ended += endings.memberships;
        }
        Ok(ended)
    }

    /// Lets up to `most` messages expire that are due at a time in Unix milliseconds.
    pub fn expire_due(&self, now: i64, most: usize) -> Result<u64> {
        self.check_writable()?;
        let _alone = self.expiring.lock();
        let mut expired = 0;
        while expired < most as u64 {
            self.check_pace()?;
            let from = self.kernel.expiries.swap(u64::MAX, Ordering::AcqRel);
            let part = self.expire_part(from, now, (most - expired as usize).min(RETAIN));
            // What comes meanwhile may be due earlier.
            let next = part.as_ref().map_or(from, |(next, _)| *next);
            self.kernel.expiries.fetch_min(next, Ordering::AcqRel);
            match part? {
                (_, 0) => break,
                (_, count) => expired += count,
            }
        }
        Ok(expired)
    }

    /// Where to go on, and how many messages expired.
    fn expire_part(&self, from: u64, now: i64, most: usize) -> Result<(u64, u64)> {
        let due = self.upkeep.due_expiries(from, now, most)?;
        if !due.batch.is_empty() {
            let submitted = self.write(&due.batch)?;
            self.syncer().wait(submitted.lsn, submitted.wait)?;
        }
        Ok((due.next, due.batch.len() as u64))
    }

    /// Commits what upkeep has to, in the background. To a replica it comes by its log.
    pub(super) fn tend(&self) -> Result<()> {
        if self.options.replica {
            return Ok(());
        }
        self.finish_deletions(usize::MAX)?;
        if let Some(now) = self.trusted_ms() {
            self.expire_due(now, usize::MAX)?;
        }
        self.retain_step()
    }
}
