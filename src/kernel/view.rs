//! The published state, and views of it: what readers see.
//!
//! A *moment* is a version, the number of names by then, and the files and layers of that time. A *view* holds a moment.
//! Rows and heads in memory are replaced in place, and what a living view may still look at is kept beside them
//! (`undo`). So everything that is read through one view is of one moment, for as long as it is held, and costs the writer
//! nothing when nobody looks.
//!
//! Locks, in the order in which they are taken: `current`, then `heads`, then the active layer's. That of `fates` is taken
//! last. Each is held for memory only, for at most [`SMALL`] images, and never to free a layer. Small commits are put in and
//! published under `current`.
//! Of larger ones the heads are put in slice by slice above the published version, and so are the rows; those of the
//! largest are a layer of their own. All become visible by one store of the moment.
//!
//! Invariant V1: a commit is published whole, in log order. Readers see a prefix of the log.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use super::effects::Effects;
use super::fates::Fates;
use super::feeds::FeedMemory;
use super::fileset::FileSet;
use super::heads::Heads;
use super::layer::{Content, Counts, Layer};
use super::measures::{Measured, Measures};
use super::watch::Watchers;
use crate::env::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::env::sync::{Arc, RwLock, RwLockWriteGuard};
use crate::error::{Error, Result};
use crate::files::manifest::Session;
use crate::files::sealed::StoreId;
use crate::model::Table;
use crate::model::expiry::Expiry;
use crate::model::fate::UserFate;
use crate::model::head::{Head, PackedHead};
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::image::Image;
use crate::model::key::TableKey;
use crate::model::membership::Keep;
use crate::options::Options;

/// How many images are put in under one hold of a lock: well below a millisecond.
const SLICE: usize = 256;
/// A commit of at most so many images is put in at once: a fraction of a millisecond, and nothing is copied when nobody looks.
const SMALL: usize = 1024;
/// A commit of so many images becomes a layer of its own, unless its log segment has too many.
pub const OWN_LAYER: usize = 16 << 10;
/// So many layers a log segment may have: each costs a probe in every read until it is sealed.
const MOST_LAYERS: usize = 8;

/// The published state of a store.
pub struct Kernel {
    current: RwLock<Current>,
    heads: RwLock<Heads>,
    /// What became of users.
    pub fates: Fates,
    /// No message that awaits its expiry is due before this time, in Unix milliseconds.
    pub expiries: AtomicU64,
    closed: AtomicBool,
    watchers: Watchers,
    /// How long things took.
    pub measures: Measures,
    /// How much memory feeds take.
    pub feeds: Arc<FeedMemory>,
    /// What the store was opened with.
    pub options: Options,
    /// The store's id, by which tokens know it.
    pub store: StoreId,
    /// The sessions that ended before this opening, oldest first.
    pub sessions: Vec<Session>,
}

/// The newest moment, and older ones that somebody may still hold.
struct Current {
    moment: Arc<Moment>,
    older: VecDeque<Arc<Moment>>,
    /// Moments that nobody looks at any more, and that may be the last to hold a layer or a file.
    garbage: Vec<Arc<Moment>>,
    /// Whether old images may be kept.
    undo: bool,
}

/// One moment of a store.
pub struct Moment {
    /// Version and numbers of names.
    pub counts: Counts,
    /// Sealed files and frozen layers.
    pub files: Arc<FileSet>,
    /// The layer that commits are put into.
    pub active: Arc<Layer>,
    /// Whether a caller keeps it across calls.
    held: bool,
    expired: AtomicBool,
}

/// A store as it was at one moment. All that is read through it belongs together.
///
/// A view costs nothing while nothing changes. What changes while it is held is kept for it in memory, up to a bound
/// ([`Options::view_memory`](crate::Options::view_memory)); after that its reads answer
/// [`Error::ViewExpired`](crate::Error::ViewExpired). It also keeps files that were replaced since, so drop it when done.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// use chanlog::{Batch, Draft};
/// let view = store.view()?;
/// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
/// assert_eq!(view.head("general")?.last.seq, 0);
/// assert_eq!(store.head("general")?.last.seq, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct View {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) moment: Arc<Moment>,
}

impl Moment {
    fn next(&self, counts: Counts) -> Moment {
        Moment {
            counts,
            files: self.files.clone(),
            active: self.active.clone(),
            held: false,
            expired: AtomicBool::new(false),
        }
    }

    /// The moment at which the layer of a large commit becomes visible: what is written to goes on in a new one.
    fn after(&self, own: Arc<Layer>, counts: Counts) -> Moment {
        let mut files = (*self.files).clone();
        if !self.active.is_empty() {
            files.frozen.push(self.active.clone());
        }
        files.frozen.push(own);
        let active = Arc::new(Layer::new(self.active.log.clone(), counts));
        Moment { files: Arc::new(files), active, ..self.next(counts) }
    }
}

impl Moment {
    /// The layers, newest first.
    pub fn layers(&self) -> impl Iterator<Item = &Arc<Layer>> {
        [&self.active].into_iter().chain(self.files.frozen.iter().rev())
    }

    /// The layers of the log segment that is written to, newest first.
    pub fn written(&self) -> impl Iterator<Item = &Arc<Layer>> {
        let segment = self.active.log.header.segment;
        self.layers().take_while(move |layer| layer.log.header.segment == segment)
    }

    /// Whether the log segment that is written to has as many layers as it may have.
    pub fn is_crowded(&self) -> bool {
        self.written().nth(MOST_LAYERS - 1).is_some()
    }

    /// The layers of each log segment that awaits sealing, oldest first.
    pub fn full(&self) -> impl Iterator<Item = &[Arc<Layer>]> {
        let same = |a: &Arc<Layer>, b: &Arc<Layer>| a.log.header.segment == b.log.header.segment;
        self.files.frozen.chunk_by(same).filter(move |layers| !same(&layers[0], &self.active))
    }

    /// The row of a key as of `version`.
    pub fn row<T: Table>(&self, key: T::Key, version: u64) -> Result<Option<T>> {
        if let Some(row) = self.layers().find_map(|layer| layer.get(key, version)) {
            return Ok(Some(row));
        }
        for run in self.files.runs.iter().rev() {
            if let Some(entry) = run.section(T::TABLE).get(key.raw())? {
                let row = <T as Image>::decode(entry.version, entry.image).map(Some);
                return row
                    .ok_or_else(|| run.corrupt(format!("a row of table {} does not decode", T::TABLE)));
            }
        }
        Ok(None)
    }
}

impl Current {
    /// Replaces the moment. The old one is remembered if somebody holds it.
    fn advance(&mut self, next: Moment) {
        let old = std::mem::replace(&mut self.moment, Arc::new(next));
        match Arc::strong_count(&old) {
            1 => self.discard(old),
            _ => self.older.push_back(old),
        }
        self.forget();
    }

    /// Forgets moments that nobody holds any more.
    fn forget(&mut self) {
        while let Some(moment) = self.older.pop_front_if(|moment| Arc::strong_count(moment) == 1) {
            self.discard(moment);
        }
        if self.older.len() > 64 {
            let held = |moment: &Arc<Moment>| Arc::strong_count(moment) > 1;
            let (kept, gone): (VecDeque<_>, VecDeque<_>) = self.older.drain(..).partition(held);
            self.older = kept;
            gone.into_iter().for_each(|moment| self.discard(moment));
        }
    }

    /// Drops a moment that nobody looks at any more, but later if that may free a layer: it takes tens of milliseconds, and
    /// everybody waits for the lock.
    fn discard(&mut self, moment: Arc<Moment>) {
        if !Arc::ptr_eq(&moment.files, &self.moment.files) {
            self.garbage.push(moment);
        }
    }

    /// The version of the oldest moment that somebody may look at.
    fn oldest(&self) -> u64 {
        self.older.front().unwrap_or(&self.moment).counts.version
    }

    /// Whether somebody holds any moment. New holders need the lock under which this is asked.
    fn watched(&self) -> bool {
        !self.older.is_empty() || Arc::strong_count(&self.moment) > 1
    }

    /// Lets the oldest view that is held go, if there is one.
    fn expire(&mut self) -> bool {
        let Some(at) = self.older.iter().position(|moment| moment.held) else { return false };
        if let Some(moment) = self.older.remove(at) {
            moment.expired.store(true, Ordering::Release);
        }
        true
    }
}

impl Kernel {
    /// The state that opening found.
    pub fn new(
        (options, store): (Options, StoreId),
        sessions: Vec<Session>,
        (heads, fates): (Heads, Fates),
        files: FileSet,
        active: Arc<Layer>,
        counts: Counts,
    ) -> Kernel {
        let files = Arc::new(files);
        let moment = Arc::new(Moment { counts, files, active, held: false, expired: AtomicBool::new(false) });
        Kernel {
            current: RwLock::new(Current {
                moment,
                older: VecDeque::new(),
                garbage: Vec::new(),
                undo: false,
            }),
            heads: RwLock::new(heads),
            fates,
            expiries: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            watchers: Watchers::default(),
            measures: Measures::default(),
            feeds: Arc::default(),
            options,
            store,
            sessions,
        }
    }

    /// The newest moment.
    pub fn moment(&self) -> Arc<Moment> {
        self.current.read().moment.clone()
    }

    /// A view of now, for one call.
    pub fn view(self: &Arc<Self>) -> Result<View> {
        self.check_open()?;
        Ok(View { kernel: self.clone(), moment: self.moment() })
    }

    /// A view of now that a caller may keep.
    pub fn held_view(self: &Arc<Self>) -> Result<View> {
        self.check_open()?;
        let mut current = self.current.write();
        current.forget();
        let counts = current.moment.counts;
        let moment = Arc::new(Moment { held: true, ..current.moment.next(counts) });
        // Moments stay in order, so that the front is the oldest.
        current.older.push_back(moment.clone());
        Ok(View { kernel: self.clone(), moment })
    }

    /// An error if the store is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Ends all reading.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.watchers.wake();
    }

    /// The version of the newest moment, if it is above `version`; an error once the store is closed.
    fn newer(&self, version: u64) -> Option<Result<u64>> {
        if let Err(error) = self.check_open() {
            return Some(Err(error));
        }
        Some(self.current.read().moment.counts.version).filter(|now| *now > version).map(Ok)
    }

    /// Waits until something is published that is newer than `version`, or until the deadline. The version then.
    pub fn wait_for(&self, version: u64, deadline: Option<Instant>) -> Option<Result<u64>> {
        self.watchers.wait(deadline, || self.newer(version))
    }

    /// The same for a task.
    pub fn poll_for(&self, version: u64, waker: &Waker) -> Option<Result<u64>> {
        self.watchers.poll(waker, || self.newer(version))
    }

    /// Does something, and records how long it took.
    pub fn timed<R>(&self, what: Measured, work: impl FnOnce() -> R) -> R {
        let since = self.options.env.monotonic();
        let done = work();
        self.measures.record(what, self.options.env.monotonic().saturating_sub(since));
        done
    }

    /// About how much memory heads take, in bytes.
    pub fn heads_memory(&self) -> usize {
        self.heads.read().memory()
    }

    /// What views hold at the moment: how many a caller keeps, and the bytes of memory that all need.
    pub fn held(&self) -> (usize, usize) {
        let current = self.current.read();
        let views =
            current.older.iter().filter(|moment| moment.held && Arc::strong_count(moment) > 1).count();
        let undo = self.heads.read().undo_memory() + current.moment.active.undo_memory();
        (views, undo + self.pinned(&current))
    }

    /// The newest head of a channel, for the writer.
    pub fn newest_packed(&self, channel: ChannelId) -> PackedHead {
        self.heads.read().packed(channel)
    }

    /// The same, whole.
    pub fn newest_head(&self, channel: ChannelId) -> Head {
        self.newest_packed(channel).head()
    }

    /// No message was erased after this version, as far as is published, by itself or with its sender.
    pub fn erased(&self) -> u64 {
        self.heads.read().erased().max(self.fates.last_erased())
    }

    /// How many channels were deleted.
    pub fn dead_count(&self) -> u64 {
        self.heads.read().dead()
    }

    /// Shows the newest heads that have further fields, from `from` on, at most so many. Returns where to go on: the lock is let
    /// go now and then.
    pub fn each_further(
        &self,
        from: ChannelId,
        most: usize,
        visit: &mut dyn FnMut(ChannelId, &Head),
    ) -> Option<ChannelId> {
        let (mut left, mut next) = (most, Some(from));
        while let Some(from) = next.filter(|_| left > 0) {
            let part = left.min(SLICE);
            next = self.heads.read().each_further(from, part, visit);
            left -= part;
        }
        next
    }

    /// Makes a commit visible, with its layer if it has one of its own. Only one thread may do this at a time.
    pub fn publish(&self, effects: &Effects, own: Option<Arc<Layer>>) {
        let images = effects.len();
        if let Some(fates) = effects.rows.get::<UserFate>() {
            fates.iter().for_each(|(user, fate)| self.fates.put(*user, fate));
        }
        let own = match own {
            None if images >= OWN_LAYER => self.layer_of(effects).map(Arc::new),
            own => own,
        };
        if images > SMALL {
            self.put_in_slices(effects, own.is_none());
        }
        let mut current = self.current.write();
        if images <= SMALL {
            let keep = current.watched();
            current.undo |= keep;
            put_heads(&mut self.heads.write(), effects, 0..usize::MAX, keep);
            current.moment.active.put(effects, SMALL, keep);
        }
        let counts = Counts {
            version: effects.version,
            channels: current.moment.counts.channels + effects.channels.len() as u32,
            users: current.moment.counts.users + effects.users.len() as u32,
            time: current.moment.counts.time.max(effects.time),
        };
        let next = match own {
            Some(own) => current.moment.after(own, counts),
            None => current.moment.next(counts),
        };
        current.advance(next);
        current.undo |= images > SMALL;
        if current.undo {
            self.trim(&mut current);
            // As much goes as came, so that nothing piles up.
            for _ in 0..images / SLICE {
                RwLockWriteGuard::bump(&mut current);
                self.trim(&mut current);
            }
        }
        drop(current);
        // Whoever looks for them has to find them.
        if let Some(expiries) = effects.rows.get::<Expiry>() {
            let earliest = expiries.iter().filter(|(_, row)| !row.done).map(|(at, _)| at.time).min();
            self.expiries.fetch_min(earliest.unwrap_or(u64::MAX), Ordering::AcqRel);
        }
        self.watchers.wake();
    }

    /// Makes a layer of a commit that is large and was not run ahead, if there is to be one.
    fn layer_of(&self, effects: &Effects) -> Option<Layer> {
        let moment = self.moment();
        let start = Counts { version: effects.first - 1, ..moment.counts };
        let layer = || Layer::of(moment.active.log.clone(), start, Content::of(effects, start), 0);
        (!moment.is_crowded()).then(layer)
    }

    fn put_in_slices(&self, effects: &Effects, rows: bool) {
        let mut heads = self.heads.write();
        for start in (0..effects.heads.len()).step_by(SLICE) {
            put_heads(&mut heads, effects, start..start + SLICE, true);
            RwLockWriteGuard::bump(&mut heads);
        }
        drop(heads);
        if rows {
            self.moment().active.put(effects, SLICE, true);
        }
    }

    /// Forgets old images that no view needs, and lets views go that need too many.
    fn trim(&self, current: &mut Current) {
        let active = current.moment.active.clone();
        loop {
            let oldest = current.oldest();
            let mut heads = self.heads.write();
            if heads.undo_memory() + active.undo_memory() > 0 {
                heads.trim(oldest, SLICE);
                active.trim(oldest, SLICE);
            }
            let memory = heads.undo_memory() + active.undo_memory();
            RwLockWriteGuard::unlock_fair(heads);
            current.undo = memory > 0;
            if memory <= self.options.views() || !current.expire() {
                return;
            }
        }
    }

    /// Puts a replayed head in, while nobody reads yet.
    pub fn put_head(&self, channel: ChannelId, head: &PackedHead, version: u64, keep: bool) {
        self.heads.write().put(channel, head, version, keep);
    }

    /// Shows what was replayed, while nobody reads yet.
    pub fn replayed(&self, counts: Counts) {
        let mut current = self.current.write();
        let next = current.moment.next(counts);
        current.advance(next);
        current.undo = true;
        self.heads.write().grow(counts.channels as usize);
    }

    /// Makes the active layer a frozen one, and `layer` the active one. All that was written must be published.
    pub fn roll(&self, layer: Arc<Layer>) {
        self.install(|files, active| {
            files.frozen.push(std::mem::replace(active, layer));
        });
    }

    /// Replaces the set of files.
    pub fn edit_files(&self, edit: impl FnOnce(&mut FileSet)) {
        self.install(|files, _| edit(files));
    }

    /// Frees the layers and files that nobody needs any more. Takes time, but no lock.
    pub fn collect(&self) {
        let mut current = self.current.write();
        current.forget();
        let garbage = std::mem::take(&mut current.garbage);
        drop(current);
        drop(garbage);
    }

    fn install(&self, edit: impl FnOnce(&mut FileSet, &mut Arc<Layer>)) {
        let mut current = self.current.write();
        let mut files = (*current.moment.files).clone();
        let mut active = current.moment.active.clone();
        edit(&mut files, &mut active);
        let next = Moment { files: Arc::new(files), active, ..current.moment.next(current.moment.counts) };
        current.advance(next);
        while self.pinned(&current) > self.options.views() && current.expire() {}
    }

    /// The memory of layers that only held views need.
    fn pinned(&self, current: &Current) -> usize {
        let now = &current.moment;
        let live = |layer: &Arc<Layer>| {
            Arc::ptr_eq(layer, &now.active) || now.files.frozen.iter().any(|other| Arc::ptr_eq(layer, other))
        };
        let held = current.older.iter().filter(|moment| moment.held);
        let mut pinned: Vec<_> = held
            .flat_map(|moment| moment.files.frozen.iter().chain([&moment.active]))
            .filter(|layer| !live(layer))
            .collect();
        pinned.sort_by_key(|layer| Arc::as_ptr(layer));
        pinned.dedup_by_key(|layer| Arc::as_ptr(layer));
        pinned.into_iter().map(|layer| layer.memory()).sum()
    }
}

fn put_heads(heads: &mut Heads, effects: &Effects, part: std::ops::Range<usize>, keep: bool) {
    let end = part.end.min(effects.heads.len());
    for (channel, head) in &effects.heads[part.start..end] {
        heads.put(*channel, head, effects.version, keep);
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl View {
    /// The version of the last change that it shows.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.moment.counts.version
    }

    /// The session that wrote the newest state, by which tokens know it. All replicas of a lineage are one.
    pub(crate) fn session(&self) -> u64 {
        if self.kernel.options.replica { 0 } else { self.moment.active.log.header.session }
    }

    /// The time, in Unix milliseconds: the clock's, or that of the batches that were applied to a replica.
    pub(crate) fn time(&self) -> i64 {
        let Options { replica, env, .. } = &self.kernel.options;
        if *replica { self.moment.counts.time } else { env.unix_ms() }
    }

    /// Which tombstones may be dropped by now.
    pub(crate) fn keep(&self) -> Keep {
        self.kernel.options.keep(self.time())
    }

    /// An error if the view is too old, or the store closed.
    pub(crate) fn check(&self) -> Result<()> {
        self.kernel.check_open()?;
        if self.moment.expired.load(Ordering::Acquire) { Err(Error::ViewExpired) } else { Ok(()) }
    }

    /// The layers, newest first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.moment.layers()
    }

    /// The head of a channel.
    pub(crate) fn head_of(&self, channel: ChannelId) -> Head {
        self.kernel.heads.read().at(channel, self.version())
    }

    /// Fills in the heads of many channels. The lock is let go now and then.
    pub(crate) fn add_heads<I>(&self, items: &mut [I], place: impl Fn(&mut I) -> (ChannelId, &mut Head)) {
        for part in items.chunks_mut(SLICE) {
            let heads = self.kernel.heads.read();
            for (channel, head) in part.iter_mut().map(&place) {
                *head = heads.at(channel, self.version());
            }
        }
    }

    /// The first channel from `from` on that changed after `version`.
    pub(crate) fn next_changed(&self, from: ChannelId, version: u64) -> Option<ChannelId> {
        self.kernel.heads.read().next_changed(from, version)
    }

    /// The row of a key.
    pub(crate) fn row<T: Table>(&self, key: T::Key) -> Result<Option<T>> {
        self.moment.row(key, self.version())
    }

    /// The id of a name; `None` if there is none, or if what had it was deleted.
    pub(crate) fn find(&self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        Ok(self.find_any(named, name)?.filter(|id| !self.is_dead(named, *id)))
    }

    /// The newest id of a name, deleted or not.
    pub(crate) fn find_any(&self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        let end = self.moment.counts.names(named);
        match self.layers().find_map(|layer| layer.find(named, name, end)) {
            Some(id) => Ok(Some(id)),
            None => self.moment.files.find_sealed(named, name),
        }
    }

    /// Whether a channel or a user was deleted.
    pub(crate) fn is_dead(&self, named: Named, id: u32) -> bool {
        match named {
            Named::Channel => self.head_of(ChannelId(id)).dead(),
            Named::User => (1..=self.version()).contains(&self.kernel.fates.deleted(UserId(id))),
        }
    }

    /// Up to which version what a user sent is erased, or 0.
    pub(crate) fn erased_upto(&self, user: UserId) -> Result<u64> {
        match self.kernel.fates.get(user).map_or(0, |fate| fate.erased) {
            newer if newer > self.version() => Ok(self.row::<UserFate>(user)?.map_or(0, |fate| fate.erased)),
            erased => Ok(erased),
        }
    }

    /// The channel of a name.
    pub(crate) fn channel_id(&self, name: &[u8]) -> Result<Option<ChannelId>> {
        Ok(self.find(Named::Channel, name)?.map(ChannelId))
    }

    /// The user of a name.
    pub(crate) fn user_id(&self, name: &[u8]) -> Result<Option<UserId>> {
        Ok(self.find(Named::User, name)?.map(UserId))
    }

    /// The name of an id that some published record mentions.
    pub(crate) fn name(&self, named: Named, id: u32) -> Result<Bytes> {
        match self.layers().find_map(|layer| layer.name(named, id)) {
            Some(name) => Ok(name),
            None => self.moment.files.sealed_name(named, id),
        }
    }
}
