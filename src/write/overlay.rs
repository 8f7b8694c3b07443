//! What is written but not yet published, laid over what is. Memory only, under the writer's lock.
//!
//! Below it may lie others: that of a large commit that was run ahead, and what was unpublished before that. What is not found
//! in the newest is looked for in those, and each goes as a whole once all of it is published.
//!
//! Each entry knows its commit, by that one's first version, so that publishing that commit forgets it, unless a later one
//! replaced it. A journal holds
//! what each change replaced: a refused request is taken back to where it began, and a group that could not be written to
//! where the group began. So nothing that will not be in the log is ever seen by what comes later.

use std::hash::Hash;

use bytes::Bytes;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::env::{fault, skip};
use crate::error::Result;
use crate::kernel::Counts;
use crate::kernel::effects::{Changed, Effects};
use crate::model::head::PackedHead;
use crate::model::ids::{ChannelId, Named};
use crate::model::key::TableKey;
use crate::model::message::{Origin, Placed};
use crate::model::{EachTable, EachTableMut, Family, SomeOf, Table};

/// Unpublished state.
pub struct Overlay {
    heads: Journaled<ChannelId, PackedHead>,
    rows: SomeOf<Unpublished>,
    channels: HashMap<Bytes, NameIds>,
    users: HashMap<Bytes, NameIds>,
    /// Unpublished messages, ascending.
    messages: HashMap<ChannelId, SmallVec<[Origin; 1]>>,
    /// Names and messages of the group, to be taken back.
    added: Vec<Added>,
    counts: Counts,
    group: Savepoint,
    request: Savepoint,
    /// What lies below, oldest first, each with the lsn of its last commit.
    below: Vec<(u64, Box<Overlay>)>,
}

/// The unpublished ids of a name, ascending. There are several if what had it was deleted meanwhile.
type NameIds = SmallVec<[u32; 2]>;

/// A map for more entries is let go when they are forgotten: clearing its memory would cost each small commit that comes after
/// a large one.
const LARGE: usize = 1 << 10;

fn empty<K, V>(map: &mut HashMap<K, V>) {
    match map.capacity() > LARGE {
        true => *map = HashMap::new(),
        false => map.clear(),
    }
}

/// Drops an id of a name.
fn drop_name(names: &mut HashMap<Bytes, NameIds>, name: &Bytes, drop: impl Fn(&mut NameIds)) {
    let Some(ids) = names.get_mut(name) else { return };
    drop(ids);
    if ids.is_empty() {
        names.remove(name);
    }
}

/// Unpublished rows, by table.
struct Unpublished;

impl Family for Unpublished {
    type Of<T: Table> = Journaled<T::Key, T>;
}

enum Added {
    Channel(Bytes),
    User(Bytes),
    Message(ChannelId),
}

/// How far the journal and the counts had come.
#[derive(Clone, Copy, Default)]
struct Savepoint {
    added: usize,
    counts: Counts,
}

/// What a change replaced, and its commit's first version. Boxed, because nearly always there was nothing.
type Before<V> = Option<Box<(u64, V)>>;

/// A map from which changes can be taken back.
pub struct Journaled<K, V> {
    map: HashMap<K, (u64, V)>,
    journal: Vec<(K, Before<V>)>,
    /// Where the request began in the journal.
    request: usize,
}

impl<K, V> Default for Journaled<K, V> {
    fn default() -> Self {
        Journaled { map: HashMap::new(), journal: Vec::new(), request: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Journaled<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|(_, value)| value)
    }

    fn put(&mut self, key: K, first: u64, value: V) {
        let before = self.map.insert(key, (first, value));
        self.journal.push((key, before.map(Box::new)));
    }

    fn forget(&mut self, key: &K, first: u64) {
        if self.map.get(key).is_some_and(|entry| entry.0 == first) {
            self.map.remove(key);
        }
    }

    fn take_back(&mut self, to: usize) {
        for (key, before) in self.journal.drain(to..).rev().filter(|_| !fault(72)) {
            match before {
                Some(before) => _ = self.map.insert(key, *before),
                None => _ = self.map.remove(&key),
            }
        }
    }
}

/// What is done to the journal of every table.
#[derive(Clone, Copy)]
enum Step {
    Settle,
    BeginRequest,
    TakeRequestBack,
    TakeGroupBack,
}

impl Step {
    fn apply<K: Copy + Eq + Hash, V>(self, journaled: &mut Journaled<K, V>) {
        match self {
            Step::Settle => {
                journaled.journal.clear();
                journaled.request = 0;
            }
            Step::BeginRequest => journaled.request = journaled.journal.len(),
            Step::TakeRequestBack => journaled.take_back(journaled.request),
            Step::TakeGroupBack => journaled.take_back(0),
        }
    }
}

impl EachTableMut<Unpublished> for Step {
    fn table<T: Table>(&mut self, rows: &mut Journaled<T::Key, T>) -> Result<()> {
        self.apply(rows);
        Ok(())
    }
}

impl Overlay {
    /// Nothing is unpublished.
    pub fn new(counts: Counts) -> Overlay {
        let point = Savepoint { added: 0, counts };
        Overlay {
            heads: Journaled::default(),
            rows: SomeOf::default(),
            channels: HashMap::new(),
            users: HashMap::new(),
            messages: HashMap::new(),
            added: Vec::new(),
            counts,
            group: point,
            request: point,
            below: Vec::new(),
        }
    }

    /// Goes on from there, with nothing unpublished.
    pub fn begin_at(&mut self, counts: Counts) {
        debug_assert!(self.heads.map.is_empty() && self.messages.is_empty() && self.channels.is_empty());
        self.counts = counts;
        self.settle();
    }

    /// The last version and the numbers of names that were given.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The time is that of a batch of a replica from now on.
    pub fn set_time(&mut self, time: i64) {
        self.counts.time = time;
    }

    /// Takes the next version.
    pub fn take_version(&mut self) -> u64 {
        self.counts.version += 1;
        self.counts.version
    }

    /// Lays the overlay of a large commit, whose lsn is `lsn`, over all that is unpublished so far, which is nothing if
    /// `alone`.
    pub fn lay_over(&mut self, large: Box<Overlay>, lsn: u64, alone: bool) {
        let (channels, users) = (self.counts.channels, self.counts.users);
        let channels = channels.max(large.counts.channels);
        let counts = Counts { channels, users: users.max(large.counts.users), ..large.counts };
        let mut before = std::mem::replace(self, Overlay::new(counts));
        self.below = std::mem::take(&mut before.below);
        if !alone && !fault(110) {
            self.below.push((lsn - 1, Box::new(before)));
        }
        self.below.push((lsn, large));
    }

    /// The last commit that lies below.
    pub fn laid_over(&self) -> u64 {
        self.below.last().map_or(0, |(lsn, _)| *lsn)
    }

    /// Takes out what lies below and is published. Freeing it takes long.
    pub fn take_published(&mut self, published: u64) -> Vec<(u64, Box<Overlay>)> {
        let after = self.below.partition_point(|(lsn, _)| *lsn <= published);
        self.below.drain(..after).collect()
    }

    /// This and what lies below, newest first.
    fn all(&self) -> impl Iterator<Item = &Overlay> {
        [self].into_iter().chain(self.below.iter().rev().map(|(_, below)| &**below))
    }

    /// An unpublished head.
    pub fn head(&self, channel: ChannelId) -> Option<PackedHead> {
        self.all().find_map(|overlay| overlay.heads.get(&channel)).cloned()
    }

    /// All unpublished heads, each once, but for what lies below.
    pub fn heads(&self) -> impl Iterator<Item = (ChannelId, PackedHead)> {
        self.heads.map.iter().map(|(channel, (_, head))| (*channel, head.clone()))
    }

    /// Replaces a head, in the commit that begins with version `first`.
    pub fn set_head(&mut self, channel: ChannelId, head: PackedHead, first: u64) {
        self.heads.put(channel, first, head);
    }

    /// An unpublished row.
    pub fn row<T: Table>(&self, key: T::Key) -> Option<&T> {
        self.all().find_map(|overlay| overlay.rows.get::<T>()?.get(&key))
    }

    /// Visits the unpublished rows of `from`'s group from there on, in any order. Costs a step for each row of the table.
    pub fn each_after<T: Table>(&self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) {
        for (depth, overlay) in self.all().enumerate() {
            let Some(rows) = overlay.rows.get::<T>() else { continue };
            let newer = |key| {
                self.all()
                    .take(depth)
                    .any(|newer| newer.rows.get::<T>().is_some_and(|rows| rows.get(key).is_some()))
            };
            for (key, (_, row)) in &rows.map {
                if *key >= from && key.group() == from.group() && !newer(key) {
                    visit(*key, row);
                }
            }
        }
    }

    /// Replaces a row, in the commit that begins with version `first`.
    pub fn put<T: Table>(&mut self, key: T::Key, row: T, first: u64) {
        self.rows.get_mut::<T>().put(key, first, row);
    }

    /// The newest id of an unpublished name.
    pub fn find(&self, named: Named, name: &[u8]) -> Option<u32> {
        self.all().find_map(|overlay| match named {
            Named::Channel => overlay.channels.get(name)?.last().copied(),
            Named::User => overlay.users.get(name)?.last().copied(),
        })
    }

    /// Gives the next id to a name.
    pub fn add_name(&mut self, named: Named, name: Bytes) {
        match named {
            Named::Channel => {
                self.channels.entry(name.clone()).or_default().push(self.counts.channels);
                self.counts.channels += 1;
                self.added.push(Added::Channel(name));
            }
            Named::User => {
                self.users.entry(name.clone()).or_default().push(self.counts.users);
                self.counts.users += 1;
                self.added.push(Added::User(name));
            }
        }
    }

    /// The last unpublished message of a channel up to `seq`.
    pub fn origin_at(&self, channel: ChannelId, seq: u64) -> Option<Origin> {
        self.all().find_map(|overlay| {
            let messages = overlay.messages.get(&channel)?;
            let after = messages.partition_point(|origin| origin.mark.seq <= seq);
            messages.get(after.checked_sub(1)?).copied()
        })
    }

    /// Whether a table has unpublished rows.
    pub fn any<T: Table>(&self) -> bool {
        self.all().any(|overlay| overlay.rows.get::<T>().is_some_and(|rows| !rows.map.is_empty()))
    }

    /// Notes a new message.
    pub fn add_message(&mut self, channel: ChannelId, origin: Origin) {
        self.messages.entry(channel).or_default().push(origin);
        self.added.push(Added::Message(channel));
    }

    fn step(&mut self, mut step: Step) {
        step.apply(&mut self.heads);
        let _ = self.rows.each_mut(&mut step);
    }

    /// Keeps all that was done so far: the group is written.
    pub fn settle(&mut self) {
        self.step(Step::Settle);
        self.added.clear();
        self.group = Savepoint { added: 0, counts: self.counts };
        self.request = self.group;
    }

    /// A request begins.
    pub fn begin_request(&mut self) {
        self.step(Step::BeginRequest);
        self.request = Savepoint { added: self.added.len(), counts: self.counts };
    }

    /// Takes back what the request did.
    pub fn take_request_back(&mut self) {
        self.step(Step::TakeRequestBack);
        self.take_back(self.request);
    }

    /// Takes back what all requests did since the last [`Overlay::settle`].
    pub fn take_group_back(&mut self) {
        self.step(Step::TakeGroupBack);
        self.take_back(self.group);
    }

    fn take_back(&mut self, to: Savepoint) {
        for added in self.added.drain(to.added..).rev() {
            match added {
                Added::Channel(name) => drop_name(&mut self.channels, &name, |ids| _ = ids.pop()),
                Added::User(name) => drop_name(&mut self.users, &name, |ids| skip(73, || _ = ids.pop())),
                Added::Message(channel) => {
                    if let Some(messages) = self.messages.get_mut(&channel) {
                        skip(13, || _ = messages.pop());
                        if messages.is_empty() {
                            self.messages.remove(&channel);
                        }
                    }
                }
            }
        }
        self.counts = to.counts;
    }

    /// Forgets everything: all of it is published.
    pub fn forget_all(&mut self) {
        struct Clear;
        impl EachTableMut<Unpublished> for Clear {
            fn table<T: Table>(&mut self, rows: &mut Journaled<T::Key, T>) -> Result<()> {
                empty(&mut rows.map);
                Ok(())
            }
        }
        empty(&mut self.heads.map);
        let _ = self.rows.each_mut(&mut Clear);
        empty(&mut self.channels);
        empty(&mut self.users);
        empty(&mut self.messages);
    }

    /// Forgets what a commit did, once it is published.
    pub fn forget(&mut self, effects: &Effects) {
        struct Forget<'o>(u64, &'o mut SomeOf<Unpublished>);
        impl EachTable<Changed> for Forget<'_> {
            fn table<T: Table>(&mut self, changed: &Vec<(T::Key, T)>) -> Result<()> {
                let rows = self.1.get_mut::<T>();
                changed.iter().for_each(|(key, _)| rows.forget(key, self.0));
                Ok(())
            }
        }
        effects.heads.iter().for_each(|(channel, _)| self.heads.forget(channel, effects.first));
        let _ = effects.rows.each(&mut Forget(effects.first, &mut self.rows));
        // Commits are published in order, so that the oldest id is this one's.
        let oldest = |ids: &mut NameIds| _ = ids.remove(0);
        effects.channels.iter().for_each(|name| drop_name(&mut self.channels, name, oldest));
        effects.users.iter().for_each(|name| drop_name(&mut self.users, name, oldest));
        effects.messages.iter().for_each(|placed| self.forget_message(placed));
    }

    fn forget_message(&mut self, placed: &Placed) {
        let Some(messages) = self.messages.get_mut(&placed.channel) else { return };
        let published = messages.partition_point(|origin| origin.mark.seq <= placed.mark.seq);
        messages.drain(..published);
        if messages.is_empty() {
            self.messages.remove(&placed.channel);
        }
    }
}
