//! Which commits are written, which are durable, and publishing them in order.
//!
//! Whoever waits first becomes the leader: it syncs for all that is written by then, while others go on writing, then
//! publishes and wakes those that are reached, each once. So concurrent writers share one sync, and there is no thread
//! between them and the disk. Whoever is not reached sleeps on; one of them is told to lead the next sync.
//!
//! Locks: `state` is held for memory only; syncing and publishing happen without it, and one thread at a time does each.
//!
//! Invariants:
//! * D1. A commit that asked for `Sync` is published only after the log was synced after it: the durable end moves only by
//!   the proof of a sync ([`Synced`]).
//! * D2. Commits are published in log order: a buffered commit after an unsynced one waits for it.
//! * D3. After a failed sync nothing is synced or published any more: what the failed sync left is unknown.

use std::collections::VecDeque;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::env::fault;
use crate::env::sync::atomic::{AtomicBool, Ordering};
use crate::env::sync::{Arc, Condvar, Mutex, MutexGuard, sleep};
use crate::error::{Error, Result};
use crate::files::disk::{Health, PanicGuard};
use crate::files::log::{LogFile, SyncRight, Synced};
use crate::files::note::Note;
use crate::kernel::measures::Measured;
use crate::kernel::{Effects, Kernel, Layer};
use crate::model::ids::LogId;
use crate::model::position::Position;

/// So often bytes are written again that may have found the disk full.
const TRIES: usize = 8;
/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Tracks written and durable commits. Commits are numbered by `lsn`, from 1, anew at each opening.
pub struct Syncer {
    kernel: Arc<Kernel>,
    health: Arc<Health>,
    session: u64,
    state: Mutex<Progress>,
    /// Told when a sync ends.
    idle: Condvar,
    /// Whether `slow` holds anything, quick to look at.
    any_slow: AtomicBool,
}

struct Progress {
    log: Arc<LogFile>,
    /// The right to sync it; absent while a sync runs, and for a segment that was not written yet.
    right: Option<SyncRight>,
    written: Point,
    durable: Point,
    /// Every commit up to this lsn is published.
    published: u64,
    /// Where the last published frame ends, and its version.
    published_end: (u64, u64),
    pending: VecDeque<Pending>,
    /// How far logs were applied before each commit that applied more of them and is not durable: its number, the log, and that.
    positions: VecDeque<(u64, LogId, Option<Position>)>,
    syncing: bool,
    /// Whether the writer wants the log to itself: a sync that is under way proves nothing then, and nobody begins another.
    alone: bool,
    publishing: bool,
    waiters: Vec<Waiter>,
    syncs: u64,
    /// How long the last sync took.
    synced_in: Duration,
    slow: Option<SlowCommits>,
}

/// A place in the log of this session.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    lsn: u64,
    /// The offset in the active segment.
    end: u64,
    /// Messages that were acknowledged early, from the opening on.
    early: u64,
}

/// A commit that is written and not yet published.
#[derive(Debug)]
pub struct Pending {
    /// Its number.
    pub lsn: u64,
    /// What it changes.
    pub effects: Arc<Effects>,
    /// Its layer, if it has one of its own.
    pub own: Option<Arc<Layer>>,
    /// Whether it may be published before it is durable.
    pub early: bool,
    /// Whether its caller asked for durability.
    pub promised: bool,
    /// Where its frame ends.
    pub end: u64,
    /// When it was submitted, by the monotonic clock.
    pub since: Duration,
}

/// Commits that took longer than they should.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlowCommits {
    /// How many.
    pub commits: u64,
    /// From its submission to its acknowledgement, the one that took longest.
    pub longest: Duration,
    /// The longest sync that one of them had to wait for.
    pub sync: Duration,
}

/// How far a caller wants to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until the commit may be seen.
    Published,
    /// Until it is on disk, and seen.
    Durable,
}

/// Somebody who waits for a commit.
struct Waiter {
    lsn: u64,
    wait: Wait,
    sleeper: Sleeper,
}

enum Sleeper {
    Thread(Arc<Parking>),
    Task(Waker),
}

/// Where a thread sleeps until it is reached or has to lead.
#[derive(Default)]
struct Parking {
    awake: Mutex<bool>,
    changed: Condvar,
}

impl Parking {
    fn sleep(&self) {
        let mut awake = self.awake.lock();
        while !*awake {
            self.changed.wait(&mut awake);
        }
    }

    /// Sleeps for as long as that, or until the deadline. Whether it was woken; it may sleep again then.
    fn sleep_until(&self, deadline: Option<Instant>) -> bool {
        let mut awake = self.awake.lock();
        while !*awake {
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut awake, deadline).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut awake),
            }
        }
        std::mem::take(&mut awake)
    }

    fn wake(&self) {
        *self.awake.lock() = true;
        self.changed.notify_one();
    }
}

impl Wake for Parking {
    fn wake(self: Arc<Self>) {
        Parking::wake(&self);
    }
}

impl Progress {
    /// The last commit whose waiters need not wait any more.
    fn reached(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Published => self.published,
            Wait::Durable => self.durable.lsn.min(self.published),
        }
    }

    /// Moves the durable end, which needs the proof of a sync that began after `to` was written.
    fn became_durable(&mut self, to: Point, _proof: Synced) {
        self.durable = to;
        while self.positions.pop_front_if(|commit| commit.0 <= to.lsn).is_some() {}
    }

    /// The commits that may be published now.
    fn ready(&mut self) -> Vec<Pending> {
        let with_early = fault(4) && self.pending.front().is_some_and(|front| front.early);
        let durable = if with_early { u64::MAX } else { self.durable.lsn };
        let mut ready = Vec::new();
        while let Some(commit) = self.pending.pop_front_if(|commit| commit.early || commit.lsn <= durable) {
            ready.push(commit);
        }
        ready
    }
}

impl Syncer {
    /// Starts with a segment that is durable up to `end`.
    pub fn new(kernel: Arc<Kernel>, health: Arc<Health>, log: Arc<LogFile>, end: u64, session: u64) -> Self {
        let start = Point { end, ..Point::default() };
        let progress = Progress {
            right: log.take_right(),
            log,
            written: start,
            durable: start,
            published: 0,
            published_end: (end, kernel.moment().counts.version),
            pending: VecDeque::new(),
            positions: VecDeque::new(),
            syncing: false,
            alone: false,
            publishing: false,
            waiters: Vec::new(),
            syncs: 0,
            synced_in: Duration::ZERO,
            slow: None,
        };
        Syncer {
            kernel,
            health,
            session,
            state: Mutex::new(progress),
            idle: Condvar::default(),
            any_slow: AtomicBool::new(false),
        }
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
        if fault(71) { 0 } else { state.written.early - state.durable.early }
    }

    /// Whether something is written that is not durable.
    pub fn lags(&self) -> bool {
        let state = self.state.lock();
        state.durable.lsn < state.written.lsn && self.health.check().is_ok()
    }

    /// Whether something is written that was promised to be durable.
    pub fn promised(&self) -> bool {
        self.state.lock().pending.iter().any(|commit| commit.promised)
    }

    /// Whether some task waits, which can't sync for itself.
    pub fn tasks_wait(&self) -> bool {
        let state = self.state.lock();
        state.waiters.iter().any(|waiter| matches!(waiter.sleeper, Sleeper::Task(_)))
    }

    /// Whether all that was written is published, or will never be.
    pub fn is_all_published(&self) -> bool {
        let state = self.state.lock();
        state.published >= state.written.lsn || self.health.check().is_err()
    }

    /// How far commits are published, for readers beside this process.
    pub fn note(&self) -> Note {
        let state = self.state.lock();
        let (end, version) = state.published_end;
        Note { session: self.session, segment: state.log.header.segment, end, version }
    }

    /// How many commits are written and not yet acknowledged, and how many threads and tasks wait for some.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.pending.len(), state.waiters.len())
    }

    /// How often the log was synced.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Notes commits that were written to the active segment, which now ends at `end`.
    pub fn wrote(&self, commits: Vec<Pending>, end: u64) {
        let mut state = self.state.lock();
        for commit in commits {
            state.written.lsn = commit.lsn;
            let positions = commit.effects.positions.iter().cloned();
            state.positions.extend(positions.map(|(log, before)| (commit.lsn, log, before)));
            if commit.early {
                state.written.early += commit.effects.messages.len() as u64;
            }
            state.pending.push_back(commit);
        }
        state.written.end = end;
    }

    /// Publishes what may be seen without a further sync. Memory only; called under the writer's lock.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        self.publish(&mut state);
        self.wake(&mut state);
    }

    /// How far a log was applied durably, if it was applied further since.
    pub fn durable_position(&self, log: LogId) -> Option<Option<Position>> {
        let state = self.state.lock();
        state.positions.iter().find(|commit| commit.1 == log).map(|commit| commit.2.clone())
    }

    /// Notes that writing goes on in another segment. All before must be durable.
    pub fn rolled(&self, log: Arc<LogFile>, end: u64) {
        let mut state = self.state.lock();
        debug_assert_eq!(state.durable.lsn, state.written.lsn);
        state.right = log.take_right();
        state.log = log;
        state.written.end = end;
        state.durable.end = end;
        state.published_end.0 = end;
    }

    /// Waits for a commit.
    pub fn wait(&self, lsn: u64, wait: Wait) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if state.reached(wait) >= lsn {
                return Ok(());
            }
            self.health.check()?;
            let published_soon = state.publishing && (wait == Wait::Published || state.durable.lsn >= lsn);
            if state.syncing || state.alone || published_soon {
                let parking = Arc::new(Parking::default());
                state.waiters.push(Waiter { lsn, wait, sleeper: Sleeper::Thread(parking.clone()) });
                MutexGuard::unlocked(&mut state, || parking.sleep());
            } else {
                self.sync_once(&mut state);
            }
        }
    }

    /// Tells whether a commit is reached; if not, `waker` is woken once when it is.
    pub fn poll(&self, lsn: u64, wait: Wait, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state.lock();
        if state.reached(wait) >= lsn {
            return Some(Ok(()));
        }
        if let Err(error) = self.health.check() {
            return Some(Err(error));
        }
        let same = |waiter: &&mut Waiter| match &waiter.sleeper {
            Sleeper::Task(other) => waiter.lsn == lsn && other.will_wake(waker),
            Sleeper::Thread(_) => false,
        };
        if state.waiters.iter_mut().find(same).is_none() {
            state.waiters.push(Waiter { lsn, wait, sleeper: Sleeper::Task(waker.clone()) });
        }
        None
    }

    /// Waits for a commit until a deadline, as a task does: somebody else syncs, whom `call` calls. `None` if time ran out.
    pub fn wait_until(
        &self,
        lsn: u64,
        wait: Wait,
        deadline: Option<Instant>,
        call: impl FnOnce(),
    ) -> Option<Result<()>> {
        let parking = Arc::new(Parking::default());
        let waker = Waker::from(parking.clone());
        let mut call = Some(call);
        loop {
            let reached = self.poll(lsn, wait, &waker);
            if reached.is_some() {
                return reached;
            }
            match call.take() {
                Some(call) => call(),
                None if parking.sleep_until(deadline) => {}
                None => {
                    let mut state = self.state.lock();
                    let own = |waiter: &Waiter| matches!(&waiter.sleeper, Sleeper::Task(task) if task.will_wake(&waker));
                    state.waiters.retain(|waiter| !own(waiter));
                    return (state.reached(wait) >= lsn).then_some(Ok(()));
                }
            }
        }
    }

    /// Whether waiting for a commit would return at once.
    pub fn is_done(&self, lsn: u64, wait: Wait) -> bool {
        self.state.lock().reached(wait) >= lsn || self.health.check().is_err()
    }

    /// Makes all that is written durable.
    pub fn sync(&self) -> Result<()> {
        let lsn = self.state.lock().written.lsn;
        self.wait(lsn, Wait::Durable)
    }

    /// Waits until all that is written is published.
    pub fn publish_written(&self) -> Result<()> {
        let lsn = self.state.lock().written.lsn;
        self.wait(lsn, Wait::Published)
    }

    /// Writes all up to `end` again that is not durable, and makes it so: a write was told of a full disk, and it may have
    /// been bytes of before that were lost. A sync that is under way proves nothing then. A failure poisons the store.
    pub fn write_again(&self, end: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.durable.lsn == state.written.lsn {
            return Ok(());
        }
        self.begin_alone(&mut state);
        let (log, from) = (state.log.clone(), state.durable.end);
        let again = MutexGuard::unlocked(&mut state, || write_again(&log, from, end));
        if let Err(error) = again {
            self.health.poison(error);
        }
        self.sync_alone(&mut state)
    }

    /// Takes the log for the writer alone. It does not compete with those who wait for a sync: as none of theirs proves
    /// anything now, they would sync again and again.
    fn begin_alone(&self, state: &mut MutexGuard<'_, Progress>) {
        state.alone = true;
        while state.syncing {
            self.idle.wait(state);
        }
    }

    /// Syncs for the writer and for all who waited meanwhile.
    fn sync_alone(&self, state: &mut MutexGuard<'_, Progress>) -> Result<()> {
        state.alone = false;
        self.sync_once(state);
        self.health.check()
    }

    /// Syncs the log even if no commit needs it: for bytes that are no commit.
    pub fn sync_bytes(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.begin_alone(&mut state);
        self.sync_alone(&mut state)
    }

    fn sync_once(&self, state: &mut MutexGuard<'_, Progress>) {
        let Some(right) = state.right.take() else {
            // Nothing can be written without it; so nothing is missing.
            self.health.poison(Error::Panicked { what: "sync" });
            return;
        };
        state.syncing = true;
        let (log, target, since) = (state.log.clone(), state.written, self.now());
        let synced = MutexGuard::unlocked(state, || {
            let _guard = PanicGuard::new(&self.health, "sync");
            log.sync(&right)
        });
        state.syncing = false;
        self.idle.notify_all();
        state.right = Some(right);
        state.syncs += 1;
        state.synced_in = self.now().saturating_sub(since);
        self.kernel.measures.record(Measured::Sync, state.synced_in);
        match synced {
            Ok(proof) if (self.health.check().is_ok() || fault(6)) && (!state.alone || fault(46)) => {
                state.became_durable(target, proof);
                self.publish(state);
            }
            _ => {}
        }
        self.wake(state);
    }

    /// Publishes what may be seen. One thread does so at a time; it looks again when it is done.
    fn publish(&self, state: &mut MutexGuard<'_, Progress>) {
        if state.publishing {
            return;
        }
        loop {
            if self.health.check().is_err() && !fault(6) {
                return;
            }
            let ready = state.ready();
            let Some(last) = ready.last() else { return };
            let (lsn, end) = (last.lsn, (last.end, last.effects.version));
            state.publishing = true;
            MutexGuard::unlocked(state, || {
                let _guard = PanicGuard::new(&self.health, "publish");
                ready.iter().for_each(|commit| self.kernel.publish(&commit.effects, commit.own.clone()));
            });
            state.publishing = false;
            state.published = lsn;
            state.published_end = end;
            self.measure(state, &ready);
        }
    }

    fn now(&self) -> Duration {
        self.kernel.options.env.monotonic()
    }

    /// Notes how long commits took that were published now.
    fn measure(&self, state: &mut Progress, published: &[Pending]) {
        let now = self.now();
        for commit in published {
            let took = now.saturating_sub(commit.since);
            self.kernel.measures.record(Measured::Commit, took);
            if took > self.kernel.options.slow_commit {
                let slow = state.slow.get_or_insert_default();
                slow.commits += 1;
                slow.longest = slow.longest.max(took);
                slow.sync = if commit.early { slow.sync } else { slow.sync.max(state.synced_in) };
                self.any_slow.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The commits since this was asked last that took long.
    pub fn take_slow(&self) -> Option<SlowCommits> {
        if !self.any_slow.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        self.any_slow.store(false, Ordering::Relaxed);
        state.slow.take()
    }

    /// Wakes everybody who is reached, or all if nothing will be reached any more; and one who is not, to lead.
    fn wake(&self, state: &mut Progress) {
        let failed = self.health.check().is_err();
        let (published, durable) = (state.reached(Wait::Published), state.reached(Wait::Durable));
        let reached = |waiter: &Waiter| match waiter.wait {
            Wait::Published => waiter.lsn <= published,
            Wait::Durable => waiter.lsn <= durable,
        };
        let mut leader = state.syncing || state.alone;
        let mut at = 0;
        while at < state.waiters.len() {
            let waiter = &state.waiters[at];
            let leads = !leader && matches!(waiter.sleeper, Sleeper::Thread(_));
            if !failed && !reached(waiter) && !leads {
                at += 1;
                continue;
            }
            leader |= !failed && !reached(waiter);
            match state.waiters.swap_remove(at).sleeper {
                Sleeper::Thread(parking) => parking.wake(),
                Sleeper::Task(waker) => waker.wake(),
            }
        }
    }

    /// Wakes everybody after the store was poisoned elsewhere.
    pub fn poisoned(&self) {
        self.wake(&mut self.state.lock());
    }
}

/// Tries a few times, as room may come and go.
fn write_again(log: &LogFile, from: u64, end: u64) -> Result<()> {
    for _ in 1..TRIES {
        match log.write_again(from, end) {
            Err(Error::OutOfSpace { .. }) => sleep(PAUSE),
            done => return done,
        }
    }
    log.write_again(from, end)
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer").finish_non_exhaustive()
    }
}
