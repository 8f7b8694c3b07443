//! A part of an unsealed log segment, indexed in memory: rows, heads, names, and where its messages lie. Payloads stay in the
//! log.
//!
//! The newest layer is *active*: commits are put into it. Once its segment is full, or a large commit comes, it is *frozen*,
//! and nothing is put into it any more. A large commit is a frozen layer of its own, which was made before anybody could see
//! it. So a segment has one layer or several, and all are sealed together. A layer's lock is held for memory only, and for a
//! bounded number of images.
//!
//! Invariant: rows and heads are whole images, so that the newest source that has a key is right.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;

use super::chains::Chains;
use super::effects::{Changed, Effects};
use super::names::LayerNames;
use super::rows::{AllRows, Rows};
use crate::env::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::env::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::error::Result;
use crate::files::log::LogFile;
use crate::model::head::PackedHead;
use crate::model::ids::{ChannelId, Named};
use crate::model::key::TableKey;
use crate::model::message::Placed;
use crate::model::{EachTable, EachTableMut, Table, Tables};

/// How far a store had come: the last version, and how many names there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The last version.
    pub version: u64,
    /// How many channels there were; also the next id.
    pub channels: u32,
    /// How many users there were; also the next id.
    pub users: u32,
    /// In a replica, the greatest time of a batch, in Unix milliseconds; else 0.
    pub time: i64,
}

impl Counts {
    /// How many names of a kind there are.
    pub fn names(&self, named: Named) -> u32 {
        match named {
            Named::Channel => self.channels,
            Named::User => self.users,
        }
    }

    /// Whether there were the channel and the user that a key names.
    pub fn know(&self, key: impl TableKey) -> bool {
        let (channel, user) = key.ids();
        channel.is_none_or(|channel| channel.0 < self.channels) && user.is_none_or(|user| user.0 < self.users)
    }
}

/// The index of a log segment, or of a part of one.
pub struct Layer {
    /// The file.
    pub log: Arc<LogFile>,
    /// How far the store had come before.
    pub start: Counts,
    content: RwLock<Content>,
    /// About how much memory the content took after the last commit, in bytes.
    weight: AtomicUsize,
    /// Whether names of each kind were made here, quick to look at: in most layers none were.
    named: [AtomicBool; 2],
}

/// What a layer holds.
pub struct Content {
    /// Rows by table.
    pub rows: Tables<AllRows>,
    /// About how much memory the rows take, in bytes.
    rows_memory: usize,
    /// Heads, and where messages lie.
    pub chains: Chains,
    /// The version of each value, ascending, and where its record lies.
    pub values: Vec<(u64, u32)>,
    /// New channels.
    pub channels: LayerNames,
    /// New users.
    pub users: LayerNames,
    /// The last version that was put in.
    pub version: u64,
    /// Bytes of payloads and ids.
    pub user_bytes: u64,
    /// What to add to the place of a record to get its offset in the log.
    origin: u32,
}

impl Content {
    /// Nothing, after `start`.
    fn new(start: Counts) -> Content {
        Content {
            rows: Tables::default(),
            rows_memory: 0,
            chains: Chains::default(),
            values: Vec::new(),
            channels: LayerNames::new(start.channels),
            users: LayerNames::new(start.users),
            version: start.version,
            user_bytes: 0,
            origin: 0,
        }
    }

    /// What one commit brings, after `start`.
    pub fn of(effects: &Effects, start: Counts) -> Content {
        let mut content = Content::new(start);
        content.put(effects, 0..usize::MAX, false);
        content.end(effects);
        content
    }

    /// The names of a kind.
    pub fn names(&self, named: Named) -> &LayerNames {
        match named {
            Named::Channel => &self.channels,
            Named::User => &self.users,
        }
    }

    /// Puts a part of a commit's images in: of those that [`Effects::len`] counts.
    fn put(&mut self, effects: &Effects, part: Range<usize>, keep: bool) {
        let mut walk = Walk { part, at: 0 };
        walk.each(&effects.channels, |name| self.channels.push(name.clone()));
        walk.each(&effects.users, |name| self.users.push(name.clone()));
        walk.each(&effects.heads, |(channel, head)| self.chains.set_head(*channel, head.clone()));
        walk.each(&effects.messages, |placed| self.chains.push(placed));
        walk.each(&effects.values, |value| self.values.push(*value));
        let to = (&mut self.rows, &mut self.rows_memory);
        let _ = effects.rows.each(&mut PutRows { walk, to, version: effects.version, keep });
    }

    /// Notes that all of a commit was put in.
    fn end(&mut self, effects: &Effects) {
        self.version = effects.version;
        self.user_bytes += effects.user_bytes;
    }

    /// The offset in the log of a record that was noted with `place`.
    pub fn offset(&self, place: u64) -> u64 {
        place + u64::from(self.origin)
    }

    fn memory(&self) -> usize {
        let values = self.values.len() * size_of::<(u64, u32)>();
        self.rows_memory + values + self.chains.memory() + self.channels.memory() + self.users.memory()
    }

    fn undo_memory(&self) -> usize {
        struct Sum(usize);
        impl EachTable<AllRows> for Sum {
            fn table<T: Table>(&mut self, rows: &Rows<T>) -> Result<()> {
                self.0 += rows.undo_memory();
                Ok(())
            }
        }
        let mut sum = Sum(0);
        let _ = self.rows.each(&mut sum);
        sum.0
    }
}

impl Layer {
    /// An empty layer.
    pub fn new(log: Arc<LogFile>, start: Counts) -> Layer {
        Layer::with(log, start, Content::new(start))
    }

    /// The layer of one commit. The store has come to `start` by now, which may be further than when the content was made, but
    /// for the version, and for names if it has any. `origin` is to be added to the places of its records.
    pub fn of(log: Arc<LogFile>, start: Counts, mut content: Content, origin: u64) -> Layer {
        if content.channels.names().is_empty() && content.users.names().is_empty() {
            (content.channels, content.users) =
                (LayerNames::new(start.channels), LayerNames::new(start.users));
        }
        content.origin = origin as u32;
        Layer::with(log, start, content)
    }

    fn with(log: Arc<LogFile>, start: Counts, content: Content) -> Layer {
        let named = [Named::Channel, Named::User].map(|of| !content.names(of).names().is_empty());
        let (weight, named) = (AtomicUsize::new(content.memory()), named.map(AtomicBool::new));
        Layer { log, start, content: RwLock::new(content), weight, named }
    }

    fn note_names(&self, named: Named) {
        self.named[named as usize].store(true, Ordering::Release);
    }

    /// The whole content. Only for frozen layers, where nobody waits for the lock.
    pub fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read()
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.content.read().version == self.start.version
    }

    /// Looks at the whole content. Only for frozen layers, where nobody waits for the lock, and for a few numbers.
    pub fn look<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.content.read())
    }

    /// The row of a key as of `version`.
    pub fn get<T: Table>(&self, key: T::Key, version: u64) -> Option<T> {
        T::of(&self.content.read().rows).get(key, version).cloned()
    }

    /// The newest row of a key, published or not.
    pub fn newest<T: Table>(&self, key: T::Key) -> Option<T> {
        T::of(&self.content.read().rows).newest(key).cloned()
    }

    /// At most `limit` rows of `from`'s group from there on, as of `version`, of those newer than `newer_than`. Returns
    /// where to go on, if there may be more.
    pub fn rows<T: Table>(
        &self,
        from: T::Key,
        version: u64,
        newer_than: u64,
        limit: usize,
        out: &mut Vec<(T::Key, T)>,
    ) -> Option<T::Key> {
        let mut next = None;
        let content = self.content.read();
        T::of(&content.rows).visit(from, version, newer_than, |key, row| {
            if out.len() == limit {
                next = Some(key);
                return false;
            }
            if newer_than == 0 || row.version() > newer_than {
                out.push((key, row.clone()));
            }
            true
        });
        next
    }

    /// The groups of a table that have rows here, ascending.
    pub fn groups<T: Table>(&self) -> Vec<u32> {
        T::of(&self.content.read().rows).group_numbers()
    }

    /// Where the records of messages and values begin in this layer's log, in order of their versions.
    pub fn records(&self) -> Vec<u64> {
        let content = self.content.read();
        let messages = content.chains.sorted().into_iter().flat_map(|(_, touched)| touched.chain.offsets());
        let values = content.values.iter().map(|(_, offset)| u64::from(*offset));
        let mut records: Vec<u64> = messages.chain(values).map(|place| content.offset(place)).collect();
        records.sort_unstable();
        records
    }

    /// The newest id of a name that was made in this layer, of those below `end`.
    pub fn find(&self, named: Named, name: &[u8], end: u32) -> Option<u32> {
        if !self.named[named as usize].load(Ordering::Acquire) {
            return None;
        }
        self.content.read().names(named).find(name, end)
    }

    /// The name of an id that was made in this layer.
    pub fn name(&self, named: Named, id: u32) -> Option<Bytes> {
        if id < self.start.names(named) {
            return None;
        }
        self.content.read().names(named).get(id).cloned()
    }

    /// At most `limit` names after `name` in byte order, of ids that are wanted.
    pub fn names_after(
        &self,
        named: Named,
        name: &[u8],
        limit: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<(Bytes, u32)> {
        let (mut sorted, missing) = self.look(|content| content.names(named).unsorted());
        if !missing.is_empty() {
            let mut all = (*sorted).clone();
            all.extend(missing);
            // Runs that are sorted already, so that a merge sort is quick.
            all.sort();
            sorted = Arc::new(all);
            self.look(|content| content.names(named).keep_sorted(sorted.clone()));
        }
        let from = sorted.partition_point(|(other, _)| &other[..] <= name);
        sorted[from..].iter().filter(|(_, id)| wanted(*id)).take(limit).cloned().collect()
    }

    /// Where the messages of a channel with a seq in `range` are in this layer's log, at most `limit`, in the wanted direction.
    pub fn offsets(
        &self,
        channel: ChannelId,
        range: RangeInclusive<u64>,
        reverse: bool,
        limit: usize,
    ) -> Vec<u64> {
        let content = self.content.read();
        let chain = content.chains.get(channel);
        let mut places = chain.map_or_else(Vec::new, |chain| chain.range(range, reverse, limit));
        places.iter_mut().for_each(|place| *place = content.offset(*place));
        places
    }

    /// The first message of a channel here, and the version and seq of the one before it in older segments.
    pub fn chain_start(&self, channel: ChannelId) -> Option<(u64, (u64, u64))> {
        let content = self.content.read();
        content.chains.get(channel).map(|chain| (chain.first_seq, chain.previous))
    }

    /// The offset of a channel's message, if it is in this layer.
    pub fn offset(&self, channel: ChannelId, seq: u64) -> Option<u64> {
        let content = self.content.read();
        content.chains.get(channel)?.offset(seq).map(|place| content.offset(place))
    }

    /// The offset of the value of a version, if it is in this layer.
    pub fn value(&self, version: u64) -> Option<u64> {
        let content = self.content.read();
        let at = content.values.binary_search_by_key(&version, |(version, _)| *version).ok()?;
        Some(content.offset(content.values[at].1.into()))
    }

    /// Puts a commit's images in, heads of the store apart: at most `slice` of them at once, after which whoever waits for
    /// the lock gets it. With `keep`, views older than the commit find what was there before.
    pub fn put(&self, effects: &Effects, slice: usize, keep: bool) {
        if !effects.channels.is_empty() {
            self.note_names(Named::Channel);
        }
        if !effects.users.is_empty() {
            self.note_names(Named::User);
        }
        let mut content = self.content.write();
        let images = effects.len();
        for start in (0..images).step_by(slice) {
            content.put(effects, start..(start + slice).min(images), keep);
            RwLockWriteGuard::bump(&mut content);
        }
        content.end(effects);
        self.weight.store(content.memory(), Ordering::Relaxed);
    }

    /// Puts a replayed name in.
    pub fn put_name(&self, named: Named, name: Bytes) {
        self.note_names(named);
        let mut content = self.content.write();
        match named {
            Named::Channel => content.channels.push(name),
            Named::User => content.users.push(name),
        }
    }

    /// Puts a replayed message in.
    pub fn put_message(&self, placed: &Placed, user_bytes: u64) {
        let mut content = self.content.write();
        content.chains.push(placed);
        content.user_bytes += user_bytes;
    }

    /// Puts a replayed value in.
    pub fn put_value(&self, version: u64, offset: u32) {
        self.content.write().values.push((version, offset));
    }

    /// Puts a replayed head in.
    pub fn put_head(&self, channel: ChannelId, head: PackedHead) {
        self.content.write().chains.set_head(channel, head);
    }

    /// Puts a replayed row in.
    pub fn put_row<T: Table>(&self, key: T::Key, row: T, version: u64, keep: bool) {
        let content = &mut *self.content.write();
        let rows = T::of_mut(&mut content.rows);
        content.rows_memory -= rows.memory();
        rows.put(key, row, version, keep);
        content.rows_memory += rows.memory();
    }

    /// Notes the last version that was replayed.
    pub fn replayed(&self, version: u64) {
        let mut content = self.content.write();
        content.version = version;
        self.weight.store(content.memory(), Ordering::Relaxed);
    }

    /// Forgets what only views older than `version` need, at most so many images a table.
    pub fn trim(&self, version: u64, most: usize) {
        struct Trim(u64, usize);
        impl EachTableMut<AllRows> for Trim {
            fn table<T: Table>(&mut self, rows: &mut Rows<T>) -> Result<()> {
                rows.trim(self.0, self.1);
                Ok(())
            }
        }
        let mut content = self.content.write();
        let _ = content.rows.each_mut(&mut Trim(version, most));
        RwLockWriteGuard::unlock_fair(content);
    }

    /// About how much memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.content.read().memory()
    }

    /// The same after the last commit, without a look inside.
    pub fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// About how much memory old images take, in bytes.
    pub fn undo_memory(&self) -> usize {
        self.content.read().undo_memory()
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("log", &self.log).finish_non_exhaustive()
    }
}

/// Walks over several lists as if they were one, and shows a part of it.
struct Walk {
    part: Range<usize>,
    /// The number of the first item of the next list.
    at: usize,
}

impl Walk {
    fn each<I>(&mut self, items: &[I], show: impl FnMut(&I)) {
        let start = self.part.start.saturating_sub(self.at).min(items.len());
        let end = self.part.end.saturating_sub(self.at).min(items.len());
        self.at += items.len();
        items[start..end.max(start)].iter().for_each(show);
    }
}

struct PutRows<'e> {
    walk: Walk,
    /// The rows, and how much memory they take.
    to: (&'e mut Tables<AllRows>, &'e mut usize),
    version: u64,
    keep: bool,
}

impl EachTable<Changed> for PutRows<'_> {
    fn table<T: Table>(&mut self, changed: &Vec<(T::Key, T)>) -> Result<()> {
        let (version, keep, rows) = (self.version, self.keep, T::of_mut(self.to.0));
        *self.to.1 -= rows.memory();
        self.walk.each(changed, |(key, row)| rows.put(*key, row.clone(), version, keep));
        *self.to.1 += rows.memory();
        Ok(())
    }
}

/// Whether two keys are of one group.
pub fn same_group<K: TableKey>(a: K, b: K) -> bool {
    a.group() == b.group()
}
