//! What readers see: the published state of the store.
//!
//! It has two halves. [`Base`] is immutable and shared: table runs, message segments and frozen log segments, replaced as
//! a whole when one of them comes or goes. [`State`] is changed in place under a lock, and only by publishing a commit:
//! heads, and the index of the active log segment. So a reader holds the lock only for memory, never for a disk.
//!
//! Invariants:
//! * V1. A commit is published whole, under one write lock, in log order. Readers see a prefix of the log.
//! * V2. The active memtable is newer than frozen ones, a later frozen one newer than an earlier, and all are newer than
//!   every run; runs ascend. The newest source that has a key is right.
//! * V3. The version ranges of segments, frozen segments and the active one ascend and don't overlap, so that a
//!   version tells the file where its message lies.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::change::Key;
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::log::LogFile;
use crate::manifest::{Entry, Loss};
use crate::memtable::{self, Memtable};
use crate::segment::Segment;
use crate::table::{self, HashKey, Names, Run};
use crate::types::{ChannelId, Head, Mark, Row, UserId};

/// The published state behind its lock.
#[derive(Debug)]
pub struct Published(pub RwLock<State>);

/// What changes with each commit.
#[derive(Debug)]
pub struct State {
    /// The last published version.
    pub version: u64,
    pub heads: Heads,
    pub active: Unsealed,
    pub base: Arc<Base>,
}

/// What only sealing, merging and rolling replace.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Oldest first, as all lists here.
    pub runs: Vec<Arc<Run>>,
    pub segments: Vec<Part>,
    pub frozen: Vec<Arc<Unsealed>>,
    pub losses: Arc<[Loss]>,
    /// The key of the hashes of names in runs.
    pub key: HashKey,
}

/// A log segment and the index of what was published from it.
#[derive(Debug)]
pub struct Unsealed {
    pub log: Arc<LogFile>,
    pub table: Memtable,
}

/// A message segment, or what stands for one that can't be opened: the rest of the store stays readable.
#[derive(Clone, Debug)]
pub struct Part {
    pub entry: Entry,
    pub segment: Result<Arc<Segment>>,
}

/// What a commit changes, as after-images, ready to be published.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The last version of the commit.
    pub version: u64,
    /// New names, in the order of their ids.
    pub channels: Vec<Bytes>,
    pub users: Vec<Bytes>,
    /// The ids of the first new channel and user.
    pub first: (u32, u32),
    pub heads: Vec<(ChannelId, Head)>,
    pub rows: Vec<(Key, Row)>,
    pub members: Vec<(Key, bool)>,
    pub messages: Vec<Placed>,
    /// Bytes of payloads and ids.
    pub user_bytes: u64,
}

/// A message and where its record lies in the active log segment.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub channel: ChannelId,
    pub mark: Mark,
    /// The version of the channel's message before it.
    pub previous: u64,
    pub offset: u32,
}

/// Which of the two kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Channel,
    User,
}

impl State {
    /// Makes a commit visible.
    pub fn publish(&mut self, effects: &Effects) {
        let table = &mut self.active.table;
        effects.channels.iter().for_each(|name| table.channels.push(name.clone()));
        effects.users.iter().for_each(|name| table.users.push(name.clone()));
        for (channel, head) in &effects.heads {
            self.heads.set(*channel, *head);
            table.heads.insert(*channel, *head);
        }
        self.heads.grow(table.channels.end() as usize);
        effects.rows.iter().for_each(|(key, row)| table.rows.insert(*key, *row));
        for (key, present) in &effects.members {
            table.members.insert((key.channel, key.user), *present);
        }
        for placed in &effects.messages {
            table.push_message(placed.channel, placed.mark, placed.previous, placed.offset);
        }
        table.user_bytes += effects.user_bytes;
        table.version = effects.version;
        self.version = effects.version;
    }

    /// Makes the active segment a frozen one, and `log` the active one.
    pub fn roll(&mut self, log: Arc<LogFile>) {
        let table = &self.active.table;
        let next = Memtable::new(table.version, table.channels.end(), table.users.end());
        let full = std::mem::replace(&mut self.active, Unsealed { log, table: next });
        let mut base = (*self.base).clone();
        base.frozen.push(Arc::new(full));
        self.base = Arc::new(base);
    }

    /// How many names of a kind there are; also the next id.
    pub fn names(&self, named: Named) -> u32 {
        self.active.table.names(named).end()
    }
}

impl Memtable {
    /// The names of a kind.
    pub fn names(&self, named: Named) -> &memtable::Names {
        match named {
            Named::Channel => &self.channels,
            Named::User => &self.users,
        }
    }
}

impl Published {
    /// The present base.
    pub fn base(&self) -> Arc<Base> {
        self.0.read().base.clone()
    }

    /// The id of a name; `None` if no commit made one.
    pub fn find(&self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        let base = {
            let state = self.0.read();
            if let Some(id) = state.active.table.names(named).find(name) {
                return Ok(Some(id));
            }
            state.base.clone()
        };
        base.find(named, name)
    }

    /// The channel of a name.
    pub fn channel(&self, name: &[u8]) -> Result<Option<ChannelId>> {
        Ok(self.find(Named::Channel, name)?.map(ChannelId))
    }

    /// The user of a name.
    pub fn user(&self, name: &[u8]) -> Result<Option<UserId>> {
        Ok(self.find(Named::User, name)?.map(UserId))
    }

    /// The name of an id that some published record mentions.
    pub fn name(&self, named: Named, id: u32) -> Result<Bytes> {
        let base = {
            let state = self.0.read();
            if let Some(name) = state.active.table.names(named).get(id) {
                return Ok(name.clone());
            }
            state.base.clone()
        };
        base.name(named, id)
    }

    /// A row, tombstones included.
    pub fn row(&self, key: Key) -> Result<Option<Row>> {
        let base = {
            let state = self.0.read();
            if let Some(row) = state.active.table.rows.get(&key) {
                return Ok(Some(*row));
            }
            state.base.clone()
        };
        base.row(key)
    }
}

impl Published {
    /// Whether a user has or had a row.
    pub fn has_rows(&self, user: UserId) -> Result<bool> {
        let base = {
            let state = self.0.read();
            if state.active.table.rows_of(user, ChannelId(0)).next().is_some() {
                return Ok(true);
            }
            state.base.clone()
        };
        if base.frozen.iter().any(|frozen| frozen.table.rows_of(user, ChannelId(0)).next().is_some()) {
            return Ok(true);
        }
        for run in &base.runs {
            if run.rows(user, ChannelId(0), 0).next()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Base {
    /// A row of a frozen segment or a run.
    pub fn row(&self, key: Key) -> Result<Option<Row>> {
        for frozen in self.frozen.iter().rev() {
            if let Some(row) = frozen.table.rows.get(&key) {
                return Ok(Some(*row));
            }
        }
        for run in self.runs.iter().rev() {
            if let Some(row) = run.row(key.user, key.channel)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    fn find(&self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        for frozen in self.frozen.iter().rev() {
            if let Some(id) = frozen.table.names(named).find(name) {
                return Ok(Some(id));
            }
        }
        let hash = table::hash(&self.key, name);
        for run in self.runs.iter().rev() {
            if let Some(id) = run.names(named).find(name, hash)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn name(&self, named: Named, id: u32) -> Result<Bytes> {
        if let Some(name) = self.frozen.iter().rev().find_map(|frozen| frozen.table.names(named).get(id)) {
            return Ok(name.clone());
        }
        let after = self.runs.partition_point(|run| run.names(named).first() <= id);
        for run in self.runs[..after].iter().rev() {
            if let Some(name) = run.names(named).get(id)? {
                return Ok(name);
            }
        }
        // An id stands only in records that were written after its name.
        let path = self.runs.last().map(|run| run.path().to_path_buf()).unwrap_or_default();
        Err(Error::corrupt(&path, 0, format!("no name for {named:?} {id}")))
    }

    /// Where the message of a version lies, if not in the active segment.
    pub fn locate(&self, version: u64) -> Option<Place<'_>> {
        let first = self.frozen.first().map_or(u64::MAX, |frozen| frozen.log.base_version + 1);
        if version >= first {
            let after = self.frozen.partition_point(|frozen| frozen.log.base_version < version);
            return self.frozen[..after].last().map(Place::Frozen);
        }
        let after = self.segments.partition_point(|part| part.entry.versions.0 <= version);
        self.segments[..after].last().map(Place::Sealed)
    }
}

/// A file that holds messages.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    Frozen(&'a Arc<Unsealed>),
    Sealed(&'a Part),
}

impl Run {
    /// The names of a kind.
    pub fn names(&self, named: Named) -> Names<'_> {
        match named {
            Named::Channel => self.channel_names(),
            Named::User => self.user_names(),
        }
    }
}
