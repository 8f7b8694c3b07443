//! The open store behind all handles: its parts, and how it ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::threads::{Signals, Threads};
use crate::env::Dir;
use crate::env::sync::atomic::{AtomicI64, Ordering};
use crate::env::sync::{Arc, Mutex};
use crate::env::unless;
use crate::error::{Error, Result};
use crate::files::disk::{Disk, Health};
use crate::files::note::{Note, NoteWriter};
use crate::files::reserve::Reserve;
use crate::kernel::Kernel;
use crate::model::batch::Batch;
use crate::model::ids::ChannelId;
use crate::options::Options;
use crate::upkeep::backup::Backup;
use crate::upkeep::erasures::Erasing;
use crate::upkeep::overdue::UNKNOWN;
use crate::upkeep::report::{Queues, Recovery, Stat, stat};
use crate::upkeep::{Merges, Upkeep, recovery};
use crate::write::sync::{SlowCommits, Syncer};
use crate::write::{Committer, Help, Submitted};

/// A merge rests as long as it worked, after each so many bytes, while commits come in.
const STRIDE: u64 = 1 << 20;

/// How much scrubbing reads in a second, in bytes.
const SCRUB_RATE: u64 = 16 << 20;

/// So often segments are looked for that merges moved erased bytes into, before all are looked at.
const ERASE_TRIES: usize = 4;

/// An open store.
pub struct Engine {
    pub options: Options,
    pub kernel: Arc<Kernel>,
    pub recovery: Recovery,
    pub signals: Signals,
    disk: Arc<Disk>,
    reserve: Reserve,
    committer: Committer,
    pub(super) upkeep: Upkeep,
    threads: Mutex<Option<Threads>>,
    /// Held until the store is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
    /// Where retention goes on, and after which sealed file it was last enforced in the background.
    pub(super) retention: Mutex<(ChannelId, Option<u64>)>,
    /// Held while messages expire.
    pub(super) expiring: Mutex<()>,
    /// When this process committed last, in Unix milliseconds; 0 for never.
    pub(super) committed_at: AtomicI64,
    /// Written by the background only.
    note: Mutex<NoteWriter>,
    /// How closing ended. Its lock is held while the store closes, so that whoever closes it too waits for that.
    ending: Mutex<Option<Result<()>>>,
}

impl Engine {
    /// Opens the store in `dir`. Nothing runs in the background yet.
    pub fn open(options: Options, dir: &Path) -> Result<Arc<Engine>> {
        options.check()?;
        let _span = tracing::info_span!(target: "chanlog", "open", dir = %dir.display()).entered();
        let since = options.env.monotonic();
        let opened = recovery::open(&options, dir)?;
        let (disk, kernel, store) = (opened.disk, opened.kernel, opened.manifest.store);
        let options = opened.options;
        let engine = Arc::new(Engine {
            committer: Committer::new(options.clone(), disk.clone(), store, kernel.clone(), opened.start),
            reserve: Reserve::new(disk.clone(), options.reserve()),
            upkeep: Upkeep::new(disk.clone(), options.clone(), kernel.clone(), opened.cache, opened.manifest),
            options,
            kernel,
            disk,
            recovery: opened.recovery,
            signals: Signals::default(),
            threads: Mutex::new(None),
            lock: Mutex::new(opened.lock),
            retention: Mutex::default(),
            expiring: Mutex::default(),
            committed_at: AtomicI64::new(0),
            note: Mutex::default(),
            ending: Mutex::new(None),
        });
        engine.note_opened();
        engine.tell_opened(since);
        Ok(engine)
    }

    fn tell_opened(&self, since: Duration) {
        let Recovery {
            created,
            clean,
            log_segments,
            commits,
            log_bytes,
            torn_bytes,
            gap,
            orphans,
            damaged,
            ..
        } = self.recovery;
        let (dir, read_only, ms) =
            (Dir::path(&*self.disk).display(), self.options.read_only, self.millis_since(since));
        tracing::info!(
            name: "open", target: "chanlog", %dir, read_only, created, clean, log_segments, commits, log_bytes, torn_bytes, gap,
            orphans, damaged, ms, "a store was opened"
        );
        if gap && !read_only {
            tracing::warn!(name: "loss", target: "chanlog", %dir, "buffered messages may have been lost");
        }
    }

    /// Whether something is to run in the background.
    pub fn has_background(&self) -> bool {
        self.options.background && !self.options.read_only
    }

    /// Keeps the background threads, to wake and to end them.
    pub fn keep_threads(&self, threads: Threads) {
        *self.threads.lock() = Some(threads);
    }

    /// Writes a caller's batch.
    pub fn submit(&self, batch: &Batch) -> Result<Submitted> {
        self.check_writable()?;
        let submitted = self.write(batch);
        self.tell();
        let submitted = submitted?;
        self.committed_at.store(self.options.env.unix_ms(), Ordering::Relaxed);
        Ok(submitted)
    }

    pub(super) fn write(&self, batch: &Batch) -> Result<Submitted> {
        let kept = self.reserve.keep();
        let submitted = match kept.and_then(|()| self.committer.submit(batch, self)) {
            Err(Error::OutOfSpace { .. }) if batch.makes_room() => {
                self.with_room(|| {
                    // Each sealed log makes room; in the background that is under way.
                    while !self.options.background && matches!(self.seal_once(), Ok(true)) {}
                    self.committer.submit(batch, self)
                })
            }
            done => done,
        }?;
        if let Some(threads) = &*self.threads.lock() {
            if self.kernel.moment().full().next().is_some() {
                threads.wake_sealer();
            }
            // Also for a commit that nobody waits for.
            threads.wake_syncer();
            threads.wake_noter();
            if self.reserve.is_low() {
                // What was trimmed or deleted goes now, and not only after the next sealing.
                threads.wake_mergers();
            }
        }
        Ok(submitted)
    }

    /// Does a step that frees more room on the disk than it takes. If the disk is full, it gets the room that is kept for that.
    fn with_room<T>(&self, step: impl Fn() -> Result<T>) -> Result<T> {
        let full = match self.reserve.is_low() {
            true => None,
            false => match step() {
                Err(full @ Error::OutOfSpace { .. }) => Some(full),
                done => return done,
            },
        };
        match (self.reserve.lend(), full) {
            (None, Some(full)) => Err(full),
            (_lent, _) => step(),
        }
    }

    /// What makes commits durable.
    pub fn syncer(&self) -> &Syncer {
        &self.committer.syncer
    }

    /// Sees to it that a task's commit is synced, which can't do it by itself.
    pub fn sync_for_task(&self) {
        let threads = self.threads.lock();
        if let Some(threads) = &*threads {
            return threads.wake_syncer();
        }
        drop(threads);
        let _ = self.syncer().sync();
        self.tell();
    }

    /// Tells readers beside this process that the session before has ended, before this one writes: all of its log counts.
    /// Without background threads nobody writes notes, so that an old one is made to say that all counts, always.
    fn note_opened(&self) {
        let mut note = self.syncer().note();
        if self.options.read_only || !self.options.background && Note::read(&self.disk).is_none() {
            return;
        }
        if !self.options.background {
            note.segment = u64::MAX;
        }
        self.note.lock().write(&self.disk, note);
    }

    /// Tells readers beside this process how far commits are published.
    pub fn note_published(&self) {
        self.note.lock().write(&self.disk, self.syncer().note());
        self.notice_erased();
    }

    /// Makes all that was written durable.
    pub fn sync(&self) -> Result<()> {
        self.check_writable()?;
        let synced = self.syncer().sync();
        self.tell();
        synced
    }

    /// An error unless this store may be written.
    pub fn check_writable(&self) -> Result<()> {
        self.kernel.check_open()?;
        if self.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    fn health(&self) -> &Health {
        self.disk.health()
    }

    /// Seals, merges or scrubs once, in the caller's thread.
    pub fn maintain(&self) -> Result<bool> {
        self.check_writable()?;
        Ok(self.seal_step()? || self.merge_runs()? || self.merge_segments()? || self.look_step()?)
    }

    /// Ends the present log segment and seals all there is.
    pub fn seal(&self) -> Result<()> {
        self.check_writable()?;
        // Where the disk is full, each sealed log makes room for what follows.
        while self.reserve.is_low() && self.seal_step()? {}
        self.after_step(self.with_room(|| self.committer.roll_now(self)))?;
        while self.seal_step()? {}
        if let Some(threads) = &*self.threads.lock() {
            threads.wake_mergers();
        }
        Ok(())
    }

    /// Seals all there is, and merges as long as that leaves fewer files.
    pub fn compact(&self) -> Result<()> {
        self.seal()?;
        self.merge_all_runs()?;
        while self.drop_trimmed()? {}
        let sync = || self.syncer().sync();
        let merge = || self.upkeep.merge_segments(Merges::Any, sync, &mut |_| self.check_pace());
        while self.after_step(self.with_room(merge))? {}
        Ok(())
    }

    /// Seals all there is, leaves one image of each row, and writes anew each segment that holds what nobody reads any more.
    pub fn erase_now(&self) -> Result<()> {
        self.erase(|_| {
            self.seal()?;
            self.take_all_out()
        })
    }

    fn take_all_out(&self) -> Result<()> {
        self.merge_all_runs()?;
        while self.drop_trimmed()? {}
        let take_out = || self.upkeep.take_out(None, || self.syncer().sync(), &mut |_| self.check_pace());
        self.after_step(self.with_room(take_out))
    }

    /// Does what takes out all that was erased by now, and was not before the version that `work` is told.
    fn erase(&self, work: impl FnOnce(u64) -> Result<()>) -> Result<()> {
        self.check_writable()?;
        let _span = tracing::debug_span!(target: "chanlog", "erase").entered();
        let erasures = &self.upkeep.erasures;
        let (upto, after) = (self.kernel.moment().counts.version, erasures.gone(0).0);
        let since = erasures.begin(upto);
        let done = work(after);
        let next_look =
            self.options.env.unix_ms().saturating_add((self.options.erase_within / 2).as_millis() as i64);
        erasures.end(upto, done.is_err().then_some(since), next_look);
        done
    }

    fn notice_erased(&self) {
        self.upkeep.erasures.notice(self.kernel.erased(), self.options.env.unix_ms());
    }

    /// Takes out what was erased, and what else nobody reads, if that is due.
    fn erase_step(&self) -> Result<bool> {
        let within = self.options.erase_within;
        if within.is_zero() {
            return Ok(false);
        }
        self.notice_erased();
        let now = self.options.env.unix_ms();
        if !self.upkeep.erasures.is_due(self.kernel.erased(), now, within) {
            return Ok(false);
        }
        self.erase(|after| {
            let waiting = self.upkeep.waiting(after)?;
            if waiting.is_empty() {
                self.syncer().sync()?;
            } else {
                self.seal()?;
            }
            if waiting.edited {
                return self.take_all_out();
            }
            let mut only = self.upkeep.half_dead()?;
            only.extend(self.upkeep.holding(&waiting)?);
            for _ in 0..ERASE_TRIES {
                if only.is_empty() {
                    return Ok(());
                }
                self.take_out_of(&only)?;
                // A merge that was under way may have moved some of it meanwhile.
                only = self.upkeep.holding(&waiting)?;
            }
            self.take_all_out()
        })?;
        Ok(true)
    }

    fn take_out_of(&self, segments: &BTreeSet<u64>) -> Result<()> {
        self.after_step(self.with_room(|| {
            let mut rest = Rest::new(self);
            let pace = &mut |bytes| rest.pause(bytes);
            self.upkeep.take_out(Some(segments), || self.syncer().sync(), pace)
        }))
    }

    /// What erased messages still wait for.
    pub fn erasing(&self) -> Result<Erasing> {
        self.kernel.check_open()?;
        self.kernel.collect();
        let (after, since) = self.upkeep.erasures.gone(self.kernel.erased());
        let mut erasing = self.upkeep.erasing(after)?;
        if erasing.messages > 0 {
            erasing.since = since.filter(|since| *since > UNKNOWN);
            let within = self.options.erase_within.as_millis() as i64;
            let until = since.map(|since| since.saturating_add(within)).filter(|_| within > 0);
            erasing.until = until.map(|until| until.max(self.options.env.unix_ms()));
        }
        Ok(erasing)
    }

    fn merge_all_runs(&self) -> Result<()> {
        let merge = || self.upkeep.merge_runs(Merges::Any, &mut |_| self.check_pace());
        while self.after_step(self.with_room(merge))? {}
        Ok(())
    }

    /// Removes one message segment of which all was trimmed, if there is one.
    fn drop_trimmed(&self) -> Result<bool> {
        self.after_step(self.with_room(|| self.upkeep.drop_trimmed(|| self.syncer().sync())))
    }

    /// Seals all there is, and makes a directory hold it too.
    pub fn back_up(&self, to: &Path) -> Result<Backup> {
        self.kernel.check_open()?;
        let _span = tracing::debug_span!(target: "chanlog", "backup").entered();
        if !self.options.read_only {
            self.seal()?;
        }
        let since = self.options.env.monotonic();
        let backup = self.upkeep.back_up(to)?;
        let ms = self.millis_since(since);
        let Backup { version, linked, copied, kept, bytes } = backup;
        let to = to.display();
        tracing::info!(name: "backup", target: "chanlog", %to, version, linked, copied, kept, bytes, ms, "a backup was made");
        Ok(backup)
    }

    /// How long ago a time of the monotonic clock was.
    fn millis_since(&self, since: Duration) -> u64 {
        self.options.env.monotonic().saturating_sub(since).as_millis() as u64
    }

    /// Tells subscribers what was noted meanwhile: commits that took long, a failure that stopped the store, and, where callers do
    /// the work of upkeep, its steps. Called where no lock is held, as a subscriber may call the store.
    pub fn tell(&self) {
        if let Some(SlowCommits { commits, longest, sync }) = self.syncer().take_slow() {
            let (longest_ms, sync_ms) = (longest.as_millis() as u64, sync.as_millis() as u64);
            tracing::warn!(name: "slow commits", target: "chanlog", commits, longest_ms, sync_ms, "commits took long");
        }
        if let Some(error) = self.health().take_untold() {
            tracing::error!(name: "poisoned", target: "chanlog", %error, "the store can't be written, writing stops");
        }
        if self.reserve.take_untold() {
            let dir = Dir::path(&*self.disk).display();
            tracing::warn!(name: "full", target: "chanlog", %dir, "the disk is full, sends are refused until there is room");
        }
        if !self.options.background {
            self.tell_steps();
        }
    }

    fn tell_steps(&self) {
        self.upkeep.take_done().into_iter().for_each(|(step, took)| step.tell(took));
    }

    /// Seals the oldest full log segment, if there is one.
    pub fn seal_step(&self) -> Result<bool> {
        let full = self.kernel.moment().full().next().is_some();
        let _span = full.then(|| tracing::debug_span!(target: "chanlog", "seal").entered());
        self.after_step(self.seal_once())
    }

    fn seal_once(&self) -> Result<bool> {
        let sealed = self.with_room(|| self.upkeep.seal(&mut |_| self.check_pace()));
        // A removed file takes room until nobody has it open.
        self.kernel.collect();
        self.signals.sealed(sealed.as_ref().err().cloned());
        sealed
    }

    /// Removes a segment of which all was trimmed, or merges segments once, if a merge is due. In the background the commits of upkeep
    /// come first.
    pub fn merge_segments(&self) -> Result<bool> {
        if self.options.background
            && let Err(error) = self.tend()
        {
            // Space comes back by merging all the same; it is tried again by the next step.
            tracing::warn!(name: "retention failed", target: "chanlog", %error, "retention failed");
        }
        if self.drop_trimmed()? {
            return Ok(true);
        }
        let _span = tracing::debug_span!(target: "chanlog", "merge", kind = "segments").entered();
        self.after_step(self.with_room(|| {
            let mut rest = Rest::new(self);
            let pace = &mut |bytes| rest.pause(bytes);
            self.upkeep.merge_segments(Merges::Worthwhile, || self.syncer().sync(), pace)
        }))
    }

    /// Merges runs once, if a merge is due.
    pub fn merge_runs(&self) -> Result<bool> {
        let _span = tracing::debug_span!(target: "chanlog", "merge", kind = "runs").entered();
        self.after_step(self.with_room(|| {
            let mut rest = Rest::new(self);
            self.upkeep.merge_runs(Merges::Worthwhile, &mut |bytes| rest.pause(bytes))
        }))
    }

    /// Reads one sealed file again, or takes out what was erased, if either is due.
    pub fn look_step(&self) -> Result<bool> {
        Ok(self.scrub_step()? || self.erase_step()?)
    }

    /// Reads one sealed file again, if one is due.
    fn scrub_step(&self) -> Result<bool> {
        let pace = &mut |bytes: u64| {
            if self.options.background {
                self.signals.doze(Duration::from_nanos(bytes * 1_000_000_000 / SCRUB_RATE));
            }
            self.check_pace()
        };
        self.after_step(self.upkeep.scrub(pace))
    }

    /// Frees what a step of upkeep replaced, tells what it did, and wakes whoever waits for a commit if it poisoned the store.
    fn after_step<T>(&self, result: Result<T>) -> Result<T> {
        self.kernel.collect();
        self.upkeep.share_memory(self.kernel.feeds.now().1);
        if self.reserve.is_low() && result.is_ok() {
            // There may be room again.
            let _ = self.reserve.keep();
        }
        if let Err(Error::Poisoned { .. }) = &result {
            self.syncer().poisoned();
        }
        self.tell_steps();
        self.tell();
        result
    }

    pub(super) fn check_pace(&self) -> Result<()> {
        unless(12, || self.health().check())?;
        if self.signals.closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// A background thread ended by a panic: nobody may wait for it any more.
    pub fn panicked(&self, thread: &'static str) {
        self.health().poison(Error::Panicked { what: thread });
        self.signals.sealed(self.health().check().err());
        self.syncer().poisoned();
        self.tell();
    }

    /// Ends the threads, makes all durable, and lets go of the lock. Whoever closes again is told the same.
    pub fn close(&self) -> Result<()> {
        let _span = tracing::debug_span!(target: "chanlog", "close").entered();
        let mut ending = self.ending.lock();
        if let Some(outcome) = &*ending {
            return outcome.clone();
        }
        let since = self.options.env.monotonic();
        let outcome = self.end();
        if self.health().check().is_err() {
            self.syncer().poisoned();
        }
        *ending = Some(outcome.clone());
        drop(ending);
        // While a thread unwinds, a subscriber that panics too would end the process.
        if std::thread::panicking() {
            return outcome;
        }
        self.tell_steps();
        self.tell();
        let ms = self.millis_since(since);
        match &outcome {
            Ok(()) => tracing::info!(name: "close", target: "chanlog", ms, "a store was closed"),
            Err(error) => {
                tracing::error!(name: "close failed", target: "chanlog", %error, ms, "a store did not close cleanly");
            }
        }
        outcome
    }

    fn end(&self) -> Result<()> {
        let sealed = match self.options.seal_on_close && !self.options.read_only {
            true => self.seal_at_end(),
            false => Ok(()),
        };
        self.kernel.close();
        self.signals.close();
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            threads.join();
        }
        self.upkeep.close();
        let closed = if self.options.read_only { Ok(()) } else { self.committer.close() };
        *self.lock.lock() = None;
        closed.and(sealed)
    }

    /// Seals all there is. What that tells is told once the store is closed: its ending is locked.
    fn seal_at_end(&self) -> Result<()> {
        self.committer.roll_now(self)?;
        while self.seal_once()? {}
        Ok(())
    }

    /// Counts and sizes.
    pub fn stat(&self) -> Result<Stat> {
        self.kernel.check_open()?;
        let manifest = self.upkeep.manifest();
        let counts = (self.syncer().syncs(), self.committer.adopted());
        let mut stat = stat(&manifest, &self.kernel.moment(), self.syncer().end(), counts);
        stat.channels = stat.channels.saturating_sub(self.kernel.dead_count());
        stat.users = stat.users.saturating_sub(self.kernel.fates.dead());
        stat.latencies = self.kernel.measures.latencies();
        let (feeds, feed_memory) = self.kernel.feeds.now();
        self.upkeep.share_memory(feed_memory);
        stat.cache = self.upkeep.cache_use();
        (stat.heads, stat.budget) = (self.kernel.heads_memory() as u64, self.options.memory);
        stat.scrubbed = self.upkeep.scrubs.found();
        stat.headroom = self.reserve.kept();
        let ((unacknowledged, waiters), (views, view_memory)) = (self.syncer().waiting(), self.kernel.held());
        stat.queues = Queues {
            unwritten: self.committer.queued() as u64,
            unacknowledged: unacknowledged as u64,
            waiters: waiters as u64,
            unsealed: self.kernel.moment().full().count() as u64,
            views: views as u64,
            feeds,
            feed_memory,
            view_memory: view_memory as u64,
        };
        Ok(stat)
    }
}

impl Help for Engine {
    /// Waits until fewer log segments await sealing; without threads, seals one.
    fn make_room(&self) -> Result<()> {
        if !self.options.background {
            // Under the writer's lock: it is told by whoever led.
            return self.seal_once().map(drop);
        }
        if let Some(threads) = &*self.threads.lock() {
            threads.wake_sealer();
        }
        self.signals.wait_for_room(|| {
            self.health().check()?;
            Ok(self.kernel.moment().full().count() < self.options.unsealed)
        })
    }

    fn confirm_manifest(&self) -> Result<()> {
        self.upkeep.confirm()
    }

    fn log_segment(&self) -> u64 {
        if self.reserve.is_low() { self.options.small_segment() } else { self.options.log_segment }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Lets a merge rest half the time while commits come in, so that it yields the disk to writers.
struct Rest<'a> {
    engine: &'a Engine,
    since: Duration,
    bytes: u64,
    version: u64,
}

impl<'a> Rest<'a> {
    fn new(engine: &'a Engine) -> Self {
        let version = engine.kernel.moment().counts.version;
        Rest { engine, since: engine.options.env.monotonic(), bytes: 0, version }
    }

    fn pause(&mut self, bytes: u64) -> Result<()> {
        self.engine.check_pace()?;
        self.bytes += bytes;
        if self.bytes < STRIDE {
            return Ok(());
        }
        let version = self.engine.kernel.moment().counts.version;
        let worked = self.engine.options.env.monotonic().saturating_sub(self.since);
        if version != self.version && self.engine.options.background {
            self.engine.signals.doze(worked);
        }
        *self = Rest { version, ..Rest::new(self.engine) };
        Ok(())
    }
}
