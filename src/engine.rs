//! The open store behind all handles: its parts, its threads, and how it ends.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use crate::batch::Batch;
use crate::commit::{Committer, Submitted};
use crate::error::{Error, Result};
use crate::maintenance::Maintenance;
use crate::options::Options;
use crate::recovery;
use crate::stat::{Files, Recovery, Stat};
use crate::state::{Named, Published};

/// After a failure, maintenance is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// A merge rests as long as it worked, after each so many bytes, while commits come in.
const STRIDE: u64 = 1 << 20;

/// An open store.
pub struct Engine {
    pub options: Options,
    pub published: Arc<Published>,
    pub recovery: Recovery,
    pub store: [u8; 16],
    pub forks: Box<[u64]>,
    committer: Committer,
    maintenance: Maintenance,
    pace: Arc<Progress>,
    threads: Mutex<Option<Threads>>,
    /// Held until the store is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

/// What threads and writers tell each other.
#[derive(Default)]
struct Progress {
    state: Mutex<Signals>,
    changed: Condvar,
}

#[derive(Default)]
struct Signals {
    closed: bool,
    /// Why sealing fails at present.
    failure: Option<Error>,
}

/// The background threads and how to wake them.
struct Threads {
    seal: Sender<()>,
    merge: Sender<()>,
    sync: Sender<()>,
    handles: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Opens the store in `dir` and starts its threads.
    pub fn open(options: Options, dir: &Path) -> Result<Arc<Engine>> {
        options.check()?;
        let opened = recovery::open(&options, dir)?;
        let manifest = opened.manifest;
        let (store, forks) = (manifest.store, manifest.forks.as_slice().into());
        let published = opened.published;
        let end = (opened.end, opened.clean);
        let engine = Arc::new(Engine {
            committer: Committer::new(options.clone(), dir.into(), store, published.clone(), opened.log, end),
            maintenance: Maintenance::new(
                options.clone(),
                dir.into(),
                published.clone(),
                opened.cache,
                manifest,
            ),
            options,
            published,
            recovery: opened.recovery,
            store,
            forks,
            pace: Arc::default(),
            threads: Mutex::new(None),
            lock: Mutex::new(Some(opened.lock)),
        });
        if engine.options.background {
            engine.start().inspect_err(|_| drop(engine.close()))?;
        }
        Ok(engine)
    }

    /// Writes a batch.
    pub fn submit(&self, batch: &Batch) -> Result<Submitted> {
        self.check_open()?;
        let submitted = self.committer.submit(batch, &|| self.make_room())?;
        if let Some(threads) = &*self.threads.lock() {
            if !self.published.0.read().base.frozen.is_empty() {
                let _ = threads.seal.try_send(());
            }
            // Also for a commit that nobody waits for.
            let _ = threads.sync.try_send(());
        }
        Ok(submitted)
    }

    /// Waits for a commit.
    pub fn wait(&self, submitted: &Submitted) -> Result<()> {
        self.committer.syncer.wait(submitted.lsn, submitted.wait)
    }

    /// Whether waiting for a commit would return at once.
    pub fn is_done(&self, submitted: &Submitted) -> bool {
        self.committer.syncer.is_done(submitted.lsn, submitted.wait)
    }

    /// Makes all that was written durable.
    pub fn sync(&self) -> Result<()> {
        self.check_open()?;
        self.committer.syncer.sync()
    }

    /// An error if the store is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.pace.state.lock().closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Seals or merges once, in the caller's thread.
    pub fn maintain(&self) -> Result<bool> {
        self.check_open()?;
        Ok(self.seal_step()? || self.merge_step()?)
    }

    /// Ends the present log segment and seals all there is.
    pub fn seal(&self) -> Result<()> {
        self.check_open()?;
        self.committer.roll_now(&|| self.make_room())?;
        while self.seal_step()? {}
        Ok(())
    }

    fn seal_step(&self) -> Result<bool> {
        let sealed = self.stop_if_lost(self.maintenance.seal(&mut |_| self.check_open()));
        let mut signals = self.pace.state.lock();
        signals.failure = sealed.as_ref().err().cloned();
        self.pace.changed.notify_all();
        sealed
    }

    fn merge_step(&self) -> Result<bool> {
        let mut rest = Rest::new(self);
        self.stop_if_lost(self.maintenance.merge(&mut |bytes| rest.pause(bytes)))
    }

    /// Stops the writer too if maintenance can't tell what is on disk.
    fn stop_if_lost<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error @ Error::Poisoned { .. }) = &result {
            self.committer.syncer.poison(error.clone());
        }
        result
    }

    /// Waits until fewer log segments await sealing; without threads, seals one.
    fn make_room(&self) -> Result<()> {
        if !self.options.background {
            return self.seal_step().map(drop);
        }
        self.wake_sealer();
        let mut signals = self.pace.state.lock();
        while self.published.base().frozen.len() >= self.options.unsealed {
            if signals.closed {
                return Err(Error::Closed);
            }
            if let Some(failure) = &signals.failure {
                return Err(failure.clone());
            }
            self.pace.changed.wait(&mut signals);
        }
        Ok(())
    }

    fn wake_sealer(&self) {
        // `submit` takes this lock only after the writer's lock is free again.
        if let Some(threads) = &*self.threads.lock() {
            let _ = threads.seal.try_send(());
        }
    }

    /// Starts the threads that seal, merge and sync. They end when their wakers are dropped.
    fn start(self: &Arc<Self>) -> Result<()> {
        let (seal, seals) = channel::bounded(1);
        let (merge, merges) = channel::bounded(1);
        let (sync, syncs) = channel::bounded(1);
        let next = merge.clone();
        let sealer = self.spawn("chanlog-seal", seals, move |engine| {
            engine.repeat("seal", |engine| {
                let sealed = engine.seal_step();
                // After each, as under load there may be no last one.
                let _ = next.try_send(());
                sealed
            });
        })?;
        let merger =
            self.spawn("chanlog-merge", merges, |engine| engine.repeat("merge", Engine::merge_step))?;
        let syncer = self.spawn("chanlog-sync", syncs, Engine::sync_behind)?;
        let _ = (seal.try_send(()), merge.try_send(()));
        *self.threads.lock() = Some(Threads { seal, merge, sync, handles: vec![sealer, merger, syncer] });
        Ok(())
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        wakes: Receiver<()>,
        work: impl Fn(&Engine) + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        let engine = Arc::downgrade(self);
        let run = move || {
            for () in wakes {
                match engine.upgrade() {
                    Some(engine) => work(&engine),
                    None => return,
                }
            }
        };
        let spawned = thread::Builder::new().name(name.into()).spawn(run);
        spawned.map_err(|error| Error::io("start thread", Path::new(name), error))
    }

    /// Steps until there is nothing to do. A failure is tried again later, unless the store closes.
    fn repeat(&self, what: &str, step: impl Fn(&Engine) -> Result<bool>) {
        loop {
            match step(self) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) if self.check_open().is_err() => return,
                Err(error @ Error::Poisoned { .. }) => {
                    tracing::error!(%error, what, "maintenance stops");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, what, "maintenance failed and will be tried again");
                    self.doze(RETRY);
                }
            }
        }
    }

    /// Syncs what nobody waits for, buffered commits above all, one interval after it came.
    fn sync_behind(&self) {
        while self.committer.syncer.is_behind() {
            self.doze(self.options.sync_interval);
            if self.check_open().is_err() || self.committer.syncer.sync().is_err() {
                return;
            }
        }
    }

    /// Waits for a time, or until the store closes.
    fn doze(&self, time: Duration) {
        let mut signals = self.pace.state.lock();
        let deadline = Instant::now().checked_add(time);
        while !signals.closed {
            match deadline {
                Some(deadline) if self.pace.changed.wait_until(&mut signals, deadline).timed_out() => return,
                Some(_) => {}
                None => self.pace.changed.wait(&mut signals),
            }
        }
    }

    /// Ends the threads, makes all durable, and lets go of the lock.
    pub fn close(&self) -> Result<()> {
        {
            let mut signals = self.pace.state.lock();
            if std::mem::replace(&mut signals.closed, true) {
                return Ok(());
            }
            self.pace.changed.notify_all();
        }
        let threads = self.threads.lock().take();
        if let Some(Threads { seal, merge, sync, handles }) = threads {
            drop((seal, merge, sync));
            for handle in handles {
                let _ = handle.join();
            }
        }
        self.maintenance.close();
        let closed = self.committer.close();
        *self.lock.lock() = None;
        closed
    }

    /// Counts and sizes.
    pub fn stat(&self) -> Result<Stat> {
        self.check_open()?;
        let manifest = self.maintenance.manifest();
        // Before the state's lock, which publishing takes while it holds the syncer's.
        let (end, syncs) = (self.committer.syncer.end(), self.committer.syncer.syncs());
        let state = self.published.0.read();
        let unsealed = || state.base.frozen.iter().map(|frozen| &**frozen).chain([&state.active]);
        let logs = || unsealed().map(|log| &log.log);
        // What is sealed meanwhile counts once, by the log segment's number.
        let ends = logs().skip(1).map(|log| log.previous_end).chain([end]);
        let live = logs().zip(ends).filter(|(log, _)| log.id >= manifest.first_log);
        let tables = || unsealed().filter(|log| log.log.id >= manifest.first_log).map(|log| &log.table);
        let files = |entries: &[crate::manifest::Entry]| Files {
            count: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.len).sum(),
        };
        Ok(Stat {
            version: state.version,
            channels: state.names(Named::Channel).into(),
            users: state.names(Named::User).into(),
            messages: manifest.totals.messages + tables().map(|table| table.count).sum::<u64>(),
            logs: Files { count: logs().count() as u64, bytes: logs().map(|log| log.capacity).sum() },
            segments: files(&manifest.segments),
            runs: files(&manifest.runs),
            user_bytes: manifest.totals.user + tables().map(|table| table.user_bytes).sum::<u64>(),
            log_bytes: manifest.totals.logged + live.map(|(_, end)| end).sum::<u64>(),
            sealed_bytes: manifest.totals.sealed,
            merged_bytes: manifest.totals.merged,
            syncs,
        })
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
        Rest {
            engine,
            since: engine.options.env.monotonic(),
            bytes: 0,
            version: engine.published.0.read().version,
        }
    }

    fn pause(&mut self, bytes: u64) -> Result<()> {
        self.engine.check_open()?;
        self.bytes += bytes;
        if self.bytes < STRIDE {
            return Ok(());
        }
        let version = self.engine.published.0.read().version;
        let worked = self.engine.options.env.monotonic().saturating_sub(self.since);
        if version != self.version && self.engine.options.background {
            self.engine.doze(worked);
        }
        *self = Rest { engine: self.engine, since: self.engine.options.env.monotonic(), bytes: 0, version };
        Ok(())
    }
}
