//! What a store can be told when it is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{Env, OsEnv};
use crate::error::{Error, Result};
use crate::files::manifest::{Deciding, Manifest};
use crate::model::batch::Durability;
use crate::model::membership::Keep;
use crate::model::retention::RetentionPolicy;
use crate::model::window::SendWindow;

/// The largest payload limit that can be set, in bytes.
pub const MAX_PAYLOAD: u32 = 16 << 20;

/// Builds a store's settings; [`Options::open`] opens it.
///
/// Nothing here is stored on disk: each open may choose anew. Only of a [replica](Options::replica) what decides is.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Durability, Options};
/// let store = Options::new().durability(Durability::Buffered).block_cache(16 << 20).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) durability: Durability,
    pub(crate) log_segment: u64,
    pub(crate) memtable: usize,
    pub(crate) unsealed: usize,
    pub(crate) message_segment: u64,
    pub(crate) payload_limit: u32,
    pub(crate) memory: u64,
    pub(crate) block_cache: Option<u64>,
    pub(crate) sync_interval: Duration,
    pub(crate) tombstone_age: Duration,
    pub(crate) tombstones: usize,
    pub(crate) background: bool,
    pub(crate) read_only: bool,
    pub(crate) view_memory: Option<usize>,
    pub(crate) seal_on_close: bool,
    pub(crate) window_versions: u64,
    pub(crate) window_time: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) slow_commit: Duration,
    pub(crate) scrub_interval: Duration,
    pub(crate) retention: RetentionPolicy,
    /// The lineage that the caller asks for.
    lineage: Option<u128>,
    /// Whether the store is a replica. Set when it is opened.
    pub(crate) replica: bool,
    pub(crate) headroom: Option<u64>,
    pub(crate) erase_within: Duration,
}

impl Options {
    /// The defaults, which suit a server.
    pub fn new() -> Self {
        Options {
            env: Arc::new(OsEnv::new()),
            durability: Durability::Sync,
            log_segment: 64 << 20,
            memtable: 128 << 20,
            unsealed: 8,
            message_segment: 512 << 20,
            payload_limit: 1 << 20,
            memory: 256 << 20,
            block_cache: None,
            sync_interval: Duration::from_millis(100),
            tombstone_age: Duration::from_secs(30 * 24 * 3600),
            tombstones: 1000,
            background: true,
            read_only: false,
            view_memory: None,
            seal_on_close: false,
            window_versions: 1 << 20,
            window_time: Duration::from_secs(7 * 24 * 3600),
            lock_timeout: Duration::ZERO,
            slow_commit: Duration::from_secs(1),
            scrub_interval: Duration::from_secs(30 * 24 * 3600),
            retention: RetentionPolicy::new(),
            lineage: None,
            replica: false,
            headroom: None,
            erase_within: Duration::from_secs(24 * 3600),
        }
    }

    /// The file system and clocks to use; the operating system's unless told otherwise.
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.env = env;
        self
    }

    /// The durability of commits whose batch doesn't choose one. `Sync` by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The size of a log segment in bytes, at least 8 KiB. 64 MiB by default.
    pub fn log_segment(mut self, bytes: u64) -> Self {
        self.log_segment = bytes.max(8 << 10);
        self
    }

    /// The memory that the rows and names of one log segment may take, in bytes, before the next segment begins. 128 MiB
    /// by default.
    pub fn memtable(mut self, bytes: usize) -> Self {
        self.memtable = bytes.max(4 << 10);
        self
    }

    /// How many full log segments may await sealing before writers wait. 8 by default.
    pub fn unsealed(mut self, segments: usize) -> Self {
        self.unsealed = segments.max(1);
        self
    }

    /// The size up to which message segments are merged, in bytes. 512 MiB by default.
    pub fn message_segment(mut self, bytes: u64) -> Self {
        self.message_segment = bytes;
        self
    }

    /// The largest payload that is accepted, in bytes, at most [`MAX_PAYLOAD`]. 1 MiB by default.
    pub fn payload_limit(mut self, bytes: u32) -> Self {
        self.payload_limit = bytes.min(MAX_PAYLOAD);
        self
    }

    /// The memory that makes reading quick, in bytes, all of it together: 256 MiB by default. A quarter may go to what held views
    /// need ([`Options::view_memory`]), as much to filters of sealed rows, of which more are read from the files; the cache of
    /// decompressed blocks has the rest, and gives way to what feeds take. [`Stat`](crate::Stat) shows each part.
    ///
    /// Not of this budget: about 40 bytes a channel, which nothing can spare ([`Stat::heads`](crate::Stat)), and what is not
    /// sealed yet ([`Options::memtable`], [`Options::unsealed`], [`Stat::layers`](crate::Stat)).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = chanlog::Options::new().memory(32 << 20).open(dir.path())?;
    /// let stat = store.stat()?;
    /// assert!(stat.cache.capacity <= 24 << 20 && stat.budget == 32 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// The memory for decompressed blocks, in bytes, in place of its share of [`Options::memory`].
    pub fn block_cache(mut self, bytes: u64) -> Self {
        self.block_cache = Some(bytes);
        self
    }

    /// How long a buffered commit may at most wait before a sync is begun for it. 100 ms by default.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// How long the tombstone of a left channel is kept, so that `since` can tell of it. 30 days by default.
    pub fn tombstone_age(mut self, age: Duration) -> Self {
        self.tombstone_age = age;
        self
    }

    /// How many tombstones are kept for each user. 1000 by default.
    pub fn tombstones(mut self, count: usize) -> Self {
        self.tombstones = count;
        self
    }

    /// Whether threads seal, merge and sync in the background. `true` by default. Without them the caller does that work
    /// with [`Store::maintain`](crate::Store::maintain) and [`Store::sync`](crate::Store::sync), and decides when: a test
    /// is then the same at every run.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Opens a store for reading only: beside a writer, or where nothing may be written. It takes no lock and changes nothing,
    /// not even a torn end. What is damaged is left out, and told in [`Recovery`](crate::Recovery); the rest is served.
    /// Shows the store as it was when it was opened.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How much memory may be taken by what views need that a caller holds, in bytes, before the oldest of them expires. A quarter
    /// of [`Options::memory`] by default.
    pub fn view_memory(mut self, bytes: usize) -> Self {
        self.view_memory = Some(bytes);
        self
    }

    /// Whether closing seals what is not sealed yet, so that the next opening replays nothing. `false` by default: closing
    /// is then quick, and opening costs the unsealed log.
    pub fn seal_on_close(mut self, seal: bool) -> Self {
        self.seal_on_close = seal;
        self
    }

    /// How long a client id makes a send unique ([`Draft::client_id`](crate::Draft::client_id)): for so many versions of the
    /// store, or for that time by the store's clock, whichever is longer. 1,048,576 versions and 7 days by default.
    ///
    /// Whoever opens a store with another window than before has the new one for all that is still there: what was beyond the
    /// old one may be gone.
    pub fn client_id_window(mut self, versions: u64, time: Duration) -> Self {
        (self.window_versions, self.window_time) = (versions, time);
        self
    }

    /// How long channels keep their messages that have no policy of their own ([`Batch::retention`](crate::Batch::retention)):
    /// for ever, unless told otherwise.
    pub fn retention(mut self, policy: RetentionPolicy) -> Self {
        self.retention = policy;
        self
    }

    /// Makes a new store a replica of a lineage, or checks that the store is one. For servers that keep the same state on several
    /// machines by a log of their own, by Raft or otherwise: all that a replica answers follows from the batches that were
    /// applied to it ([`Store::apply`](crate::Store::apply)), tokens included, so that a client may ask any of them. How each of
    /// them was sealed, merged, crashed and opened again makes no difference.
    ///
    /// A store is a replica from its creation on, and stays one however it is opened. Then
    ///
    /// - the lineage stands in place of the random id of a store. Draw it at random once for all replicas of a group, and show it to
    ///   nobody: names could be chosen by it whose hashes collide.
    /// - the greatest [`Batch::time`](crate::Batch::time) so far stands in place of the clock, 0 before the first.
    /// - what decides is kept in the store, as it was when it was made: [`Options::payload_limit`], [`Options::client_id_window`],
    ///   [`Options::tombstone_age`] and [`Options::tombstones`]. Make all replicas of a group with the same, or from a
    ///   [`Store::backup`](crate::Store::backup) of one of them.
    /// - a commit without a position is refused with [`Error::NoPosition`]. Upkeep commits nothing: channels are trimmed by
    ///   batches only ([`Store::overdue`](crate::Store::overdue)).
    /// - a crash leaves no gap in seqs: what it took is applied again, and gets the same ones.
    /// - tombstones count as they do elsewhere, but stay in the files.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use chanlog::{Batch, Draft, Options};
    /// let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    /// let replicas = [Options::new().replica(7).open(&one)?, Options::new().replica(7).open(&other)?];
    /// let mut entry = Batch::new();
    /// entry.join("general", "bob").append("general", Draft::new("alice", 0, "hi")).time(1_700_000_000_000);
    /// for replica in &replicas {
    ///     replica.apply(0, 1, "term 1", &entry)?;
    /// }
    /// replicas[0].seal()?;
    /// let [here, there] = replicas.map(|replica| replica.conversations("bob").list());
    /// assert_eq!(here?.as_of.to_string(), there?.as_of.to_string());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Opening answers [`Error::InvalidArgument`] for a store of another lineage, or of none, and releases that know no replicas
    /// answer [`Error::Unsupported`].
    pub fn replica(mut self, lineage: u128) -> Self {
        self.lineage = Some(lineage);
        self
    }

    /// How long opening waits for another process that has the store open, before it answers
    /// [`Error::Locked`](crate::Error::Locked): for a rolling restart, in which the old server still closes while the new one
    /// starts. None by default. Opening for reading takes no lock and does not wait.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use chanlog::{Options, Store};
    /// use std::{thread, time::Duration};
    /// let old = Store::open(dir.path())?;
    /// thread::spawn(move || old.close());
    /// let new = Options::new().lock_timeout(Duration::from_secs(30)).open(dir.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long a commit may take, from [`Store::submit`](crate::Store::submit) to its acknowledgement, before subscribers of
    /// `tracing` are warned ([`events`](crate::events)). 1 s by default.
    pub fn slow_commit(mut self, time: Duration) -> Self {
        self.slow_commit = time;
        self
    }

    /// How often each sealed file is read again, so that damage is found while there still is a backup without it. 30 days by
    /// default; zero turns it off. A background thread reads, at most 16 MiB/s, spread over the interval;
    /// [`Store::maintain`](crate::Store::maintain) does so too. What is found is told by [`Stat::scrubbed`](crate::Stat) and by an
    /// event, and the file is left alone by merges; what is whole in it is served as before.
    pub fn scrub_interval(mut self, interval: Duration) -> Self {
        self.scrub_interval = interval;
        self
    }

    /// How much room on the disk is kept for emptying it, in bytes: a file, `chanlog.reserve`, which the first commit makes. When
    /// the disk is full, that room is used for what frees more than it takes: commits of [`Batch::trim`](crate::Batch::trim),
    /// `empty`, `erase`, `delete_channel` and `retention` alone, and the sealing, merging and dropping of files that follows. All other
    /// commits are refused with [`Error::OutOfSpace`](crate::Error::OutOfSpace) until there is as much room again.
    ///
    /// By default as much as a log segment takes, and 2 MiB (or two pieces of an eighth, if these are smaller): by that a log segment
    /// can be sealed in nearly any case. 0 keeps none. Where a file system can't preallocate, or others fill the disk, there may be less.
    pub fn headroom(mut self, bytes: u64) -> Self {
        self.headroom = Some(bytes);
        self
    }

    /// How long the bytes of an erased message ([`Batch::erase`](crate::Batch::erase)) may stay in files after it was committed: by
    /// then no file of the directory holds its payload, as the background seals the log and writes anew each message segment that
    /// does. It begins when half of the time has passed, so that a day's erasures cost one writing of the segments they lie in; a
    /// message that was edited before costs what [`Store::erase_now`](crate::Store::erase_now) does. The same look writes anew what
    /// trimmed and deleted messages make half of. 24 hours by default; zero leaves it to `erase_now` and merges.
    /// [`Store::maintain`](crate::Store::maintain) does it too, and [`Store::erasing`](crate::Store::erasing) tells what waits.
    pub fn erase_within(mut self, time: Duration) -> Self {
        self.erase_within = time;
        self
    }

    /// The share of views.
    pub(crate) fn views(&self) -> usize {
        self.view_memory.unwrap_or_else(|| usize::try_from(self.memory / 4).unwrap_or(usize::MAX))
    }

    /// The share of filters.
    pub(crate) fn filters(&self) -> u64 {
        self.memory / 4
    }

    /// The share of the block cache beside so many bytes of filters and feeds.
    pub(crate) fn blocks(&self, others: u64) -> u64 {
        let views = u64::try_from(self.views()).unwrap_or(u64::MAX);
        let rest = self.memory.saturating_sub(views).saturating_sub(others);
        self.block_cache.unwrap_or_else(|| rest.max(self.memory / 8))
    }

    /// The room that is kept on the disk.
    pub(crate) fn reserve(&self) -> u64 {
        self.headroom.unwrap_or(self.log_segment + 2 * self.small_segment())
    }

    /// The length of a log segment where the disk is full.
    pub(crate) fn small_segment(&self) -> u64 {
        (self.log_segment / 8).clamp(8 << 10, 1 << 20)
    }

    /// How long client ids make sends unique.
    pub(crate) fn window(&self) -> SendWindow {
        let ms = i64::try_from(self.window_time.as_millis()).unwrap_or(i64::MAX);
        SendWindow { versions: self.window_versions, ms }
    }

    /// Which tombstones may be dropped at a time.
    pub(crate) fn keep(&self, now: i64) -> Keep {
        let age = i64::try_from(self.tombstone_age.as_millis()).unwrap_or(i64::MAX);
        Keep { before_ms: now.saturating_sub(age), count: self.tombstones }
    }

    /// What a store decides by that has no settings of its own.
    fn deciding(&self) -> Deciding {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Deciding {
            payload_limit: self.payload_limit,
            window: (self.window_versions, ms(self.window_time)),
            tombstone_age: ms(self.tombstone_age),
            tombstones: self.tombstones as u64,
        }
    }

    /// The manifest of a new store.
    pub(crate) fn new_manifest(&self) -> std::io::Result<Manifest> {
        match self.lineage {
            Some(lineage) => Ok(Manifest::of_lineage(lineage, self.deciding())),
            None => Manifest::new(&*self.env),
        }
    }

    /// These options, as they hold for a store: what a replica decides by stands in its manifest.
    pub(crate) fn of_store(&self, manifest: &Manifest) -> Result<Options> {
        let other =
            |lineage: &u128| manifest.replica.is_none() || Manifest::id_of(*lineage) != manifest.store;
        if self.lineage.as_ref().is_some_and(other) {
            return Err(Error::invalid("the store is no replica of this lineage"));
        }
        let mut options = self.clone();
        if let Some(Deciding { payload_limit, window, tombstone_age, tombstones }) = manifest.replica {
            options.replica = true;
            options.payload_limit = payload_limit.min(MAX_PAYLOAD);
            (options.window_versions, options.window_time) = (window.0, Duration::from_millis(window.1));
            options.tombstone_age = Duration::from_millis(tombstone_age);
            options.tombstones = usize::try_from(tombstones).unwrap_or(usize::MAX);
        }
        Ok(options)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.message_segment > u64::from(u32::MAX) {
            return Err(Error::invalid("message segments are limited to 4 GiB"));
        }
        if self.log_segment > u64::from(u32::MAX) {
            return Err(Error::invalid("log segments are limited to 4 GiB"));
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("durability", &self.durability)
            .field("log_segment", &self.log_segment)
            .field("message_segment", &self.message_segment)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}
