//! Running a large batch ahead.
//!
//! What takes long for a large batch, running its operations and indexing what they change, is done before the writer's lock
//! is taken. Commits are written meanwhile; so its versions begin above the newest one by a gap, which leaves room for theirs.
//! Under the lock it is only asked whether one of them changed anything that the batch read. If none did, it comes after all
//! of them just as it is. Otherwise its operations run again under the lock, like those of any batch.
//!
//! Invariant A1: a batch that was run ahead is written only if no commit after its view changed a head, a row or the names
//! that it read, and none took a version at or above its first.

use hashbrown::{HashMap, HashSet};

use crate::env::sync::Arc;
use crate::env::sync::atomic::{AtomicUsize, Ordering};
use crate::error::Result;
use crate::files::log::GAP;
use crate::kernel::Effects;
use crate::kernel::effects::Changed;
use crate::model::ids::ChannelId;
use crate::model::key::TableKey;
use crate::model::{EachTable, Family, SomeOf, Table};

/// A batch of so many operations is run ahead.
pub const LARGE: usize = 4 << 10;
/// So many commits are remembered for those who run ahead: more than are written in the time that one takes.
const MOST: usize = 16 << 10;

/// A large batch is run ahead as long as this lives.
pub struct RunAhead {
    /// Its versions come after this one.
    pub base: u64,
    running: Arc<AtomicUsize>,
}

impl Drop for RunAhead {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was written while large batches are run ahead. Under the writer's lock.
#[derive(Default)]
pub struct Recent {
    commits: Vec<Arc<Effects>>,
    /// Commits up to this version are not among them.
    since: u64,
    running: Arc<AtomicUsize>,
}

impl Recent {
    /// A batch of `ops` operations begins to be run ahead. The last version is `version`; `unpublished` are the commits that a view
    /// may not show yet.
    pub fn begin<'e>(
        &mut self,
        ops: usize,
        version: u64,
        unpublished: impl Iterator<Item = &'e Arc<Effects>>,
    ) -> RunAhead {
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.commits = unpublished.cloned().collect();
            self.since = self.commits.first().map_or(version, |oldest| oldest.first - 1);
        }
        RunAhead { base: version + (2 * ops as u64).min(GAP), running: self.running.clone() }
    }

    /// Notes a commit.
    pub fn push(&mut self, effects: &Arc<Effects>) {
        if self.running.load(Ordering::Relaxed) == 0 {
            return self.commits.clear();
        }
        if self.commits.len() == MOST {
            self.commits.clear();
            self.since = effects.first - 1;
        }
        self.commits.push(effects.clone());
    }

    /// Whether one of the commits after `version` changed what was read.
    pub fn meets(&self, footprint: &Footprint, version: u64) -> bool {
        let later = |effects: &&Arc<Effects>| effects.version > version;
        version < self.since || self.commits.iter().filter(later).any(|effects| footprint.meets(effects))
    }
}

struct RowsRead;

impl Family for RowsRead {
    type Of<T: Table> = HashSet<T::Key>;
}

/// For each group the least key from which on it was read.
struct RangesRead;

impl Family for RangesRead {
    type Of<T: Table> = HashMap<u32, T::Key>;
}

/// What a batch read.
#[derive(Default)]
pub struct Footprint {
    heads: HashSet<ChannelId>,
    /// Whether it looked for a name that it had no id of.
    names: bool,
    rows: SomeOf<RowsRead>,
    ranges: SomeOf<RangesRead>,
}

impl Footprint {
    /// Notes a head.
    pub fn head(&mut self, channel: ChannelId) {
        self.heads.insert(channel);
    }

    /// Notes that a name was looked for.
    pub fn name(&mut self) {
        self.names = true;
    }

    /// Notes a row.
    pub fn row<T: Table>(&mut self, key: T::Key) {
        self.rows.get_mut::<T>().insert(key);
    }

    /// Notes the rows of a group from a key on.
    pub fn range<T: Table>(&mut self, from: T::Key) {
        let least = self.ranges.get_mut::<T>().entry(from.group()).or_insert(from);
        *least = (*least).min(from);
    }

    fn meets(&self, effects: &Effects) -> bool {
        struct Meet<'f>(&'f Footprint, bool);
        impl EachTable<Changed> for Meet<'_> {
            fn table<T: Table>(&mut self, changed: &Vec<(T::Key, T)>) -> Result<()> {
                let (rows, ranges) = (self.0.rows.get::<T>(), self.0.ranges.get::<T>());
                let start = |key: &T::Key| ranges.and_then(|ranges| ranges.get(&key.group()));
                self.1 |= changed.iter().any(|(key, _)| {
                    rows.is_some_and(|rows| rows.contains(key))
                        || start(key).is_some_and(|start| start <= key)
                });
                Ok(())
            }
        }
        if effects.heads.iter().any(|(channel, _)| self.heads.contains(channel))
            || self.names && !(effects.channels.is_empty() && effects.users.is_empty())
        {
            return true;
        }
        let mut meet = Meet(self, false);
        let _ = effects.rows.each(&mut meet);
        meet.1
    }
}
