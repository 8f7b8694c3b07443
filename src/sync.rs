//! Which commits are written, which are durable, and publishing them in order.
//!
//! Whoever waits first becomes the leader: it syncs for all that is written by then, while others go on writing, then
//! publishes and wakes the rest. So concurrent writers share one sync, and there is no thread between them and the disk.
//!
//! Invariants:
//! * D1. A commit that asked for `Sync` is published only after the log was synced behind it.
//! * D2. Commits are published in log order: a buffered commit behind an unsynced one waits for it.
//! * D3. After a failed sync nothing is synced or published any more: what the failed sync left is unknown.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::log::LogFile;
use crate::state::{Effects, Published};

/// Tracks written and durable commits. Commits are numbered by `lsn`, from 1, anew in each session.
#[derive(Debug)]
pub struct Syncer {
    published: Arc<Published>,
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    log: Arc<LogFile>,
    written: Point,
    durable: Point,
    /// Every commit up to this lsn is published.
    published: u64,
    pending: VecDeque<Pending>,
    syncing: bool,
    failure: Option<Error>,
    syncs: u64,
}

/// A place in the log of this session.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    lsn: u64,
    /// The offset in the active segment.
    end: u64,
    /// Messages that were acknowledged early, from the session's start.
    early: u64,
}

/// A commit that is written and not yet published.
#[derive(Debug)]
pub struct Pending {
    pub lsn: u64,
    pub effects: Arc<Effects>,
    /// Whether it may be published before it is durable.
    pub early: bool,
}

/// How far a caller wants to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until the commit may be seen.
    Published,
    /// Until it is on disk, and seen.
    Durable,
}

impl Progress {
    /// The last commit whose waiters need not wait any more.
    fn reached(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Published => self.published,
            Wait::Durable => self.durable.lsn.min(self.published),
        }
    }
}

impl Syncer {
    /// Starts with a segment that is durable up to `end`.
    pub fn new(published: Arc<Published>, log: Arc<LogFile>, end: u64) -> Self {
        let start = Point { end, ..Point::default() };
        let progress = Progress {
            log,
            written: start,
            durable: start,
            published: 0,
            pending: VecDeque::new(),
            syncing: false,
            failure: None,
            syncs: 0,
        };
        Syncer { published, state: Mutex::new(progress), changed: Condvar::new() }
    }

    /// The error that stopped the writer, if one did.
    pub fn check(&self) -> Result<()> {
        match &self.state.lock().failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Stops the writer for good and wakes all who wait.
    pub fn poison(&self, cause: Error) -> Error {
        let mut state = self.state.lock();
        let failure = state.failure.get_or_insert_with(|| cause.poison()).clone();
        self.changed.notify_all();
        failure
    }

    /// The offset in the active segment up to which it is durable.
    pub fn durable_end(&self) -> u64 {
        self.state.lock().durable.end
    }

    /// The offset in the active segment where the next frame goes.
    pub fn end(&self) -> u64 {
        self.state.lock().written.end
    }

    /// The last published commit.
    pub fn published(&self) -> u64 {
        self.state.lock().published
    }

    /// The messages that were acknowledged early and are not yet durable.
    pub fn window(&self) -> u64 {
        let state = self.state.lock();
        state.written.early - state.durable.early
    }

    /// Whether something is written that is not durable.
    pub fn is_behind(&self) -> bool {
        let state = self.state.lock();
        state.failure.is_none() && state.durable.lsn < state.written.lsn
    }

    /// How often the log was synced.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Notes commits that were written to the active segment, which now ends at `end`.
    pub fn wrote(&self, commits: impl IntoIterator<Item = Pending>, end: u64) {
        let mut state = self.state.lock();
        for commit in commits {
            state.written.lsn = commit.lsn;
            if commit.early {
                state.written.early += commit.effects.messages.len() as u64;
            }
            state.pending.push_back(commit);
        }
        state.written.end = end;
        self.publish(&mut state);
    }

    /// Notes that writing goes on in another segment. All before must be durable.
    pub fn rolled(&self, log: Arc<LogFile>, end: u64) {
        let mut state = self.state.lock();
        debug_assert_eq!(state.durable.lsn, state.written.lsn);
        state.log = log;
        state.written.end = end;
        state.durable.end = end;
    }

    /// Waits for a commit.
    pub fn wait(&self, lsn: u64, wait: Wait) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if state.reached(wait) >= lsn {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.syncing {
                self.changed.wait(&mut state);
            } else {
                self.sync_once(&mut state);
            }
        }
    }

    /// Whether waiting for a commit would return at once.
    pub fn is_done(&self, lsn: u64, wait: Wait) -> bool {
        let state = self.state.lock();
        state.reached(wait) >= lsn || state.failure.is_some()
    }

    /// Makes all that is written durable.
    pub fn sync(&self) -> Result<()> {
        let lsn = self.state.lock().written.lsn;
        self.wait(lsn, Wait::Durable)
    }

    fn sync_once(&self, state: &mut MutexGuard<'_, Progress>) {
        state.syncing = true;
        let (log, target) = (state.log.clone(), state.written);
        let result = MutexGuard::unlocked(state, || log.sync());
        state.syncing = false;
        state.syncs += 1;
        match result {
            Ok(()) if state.failure.is_none() => {
                state.durable = target;
                self.publish(state);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "the log can't be synced, writing stops");
                state.failure.get_or_insert_with(|| error.poison());
            }
        }
        self.changed.notify_all();
    }

    /// Publishes what may be seen.
    fn publish(&self, state: &mut Progress) {
        if state.failure.is_some() {
            return;
        }
        let durable = state.durable.lsn;
        let may = |commit: &Pending| commit.early || commit.lsn <= durable;
        if !state.pending.front().is_some_and(may) {
            return;
        }
        let mut view = self.published.0.write();
        while let Some(commit) = state.pending.pop_front_if(|commit| may(commit)) {
            view.publish(&commit.effects);
            state.published = commit.lsn;
        }
    }
}
