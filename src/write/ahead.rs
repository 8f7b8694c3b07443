//! Running a large batch ahead.
//!
//! What takes long for a large batch, running its operations and indexing what they change, is done before the writer's lock
//! is taken. Commits are written meanwhile; so its versions begin above the newest one by a gap, which leaves room for theirs.
//! Under the lock it is only asked whether one of them changed anything that the batch read. If none did, it comes after all
//! of them just as it is. Otherwise its operations run again under the lock, like those of any batch.
//!
//! Invariant A1: a batch that was run ahead is written only if no commit after its view changed a head, a row or the names
//! that it read, and none took a version at or above its first.

use hashbrown::HashSet;

use super::reads::Reads;
use crate::env::fault;
use crate::env::sync::Arc;
use crate::env::sync::atomic::{AtomicUsize, Ordering};
use crate::error::Result;
use crate::kernel::Effects;
use crate::kernel::effects::Changed;
use crate::model::fate::UserFate;
use crate::model::key::TableKey;
use crate::model::{EachTable, Family, SomeOf, Table};

/// A batch of more operations is run ahead.
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
    /// A batch begins to be run ahead, with versions that begin `gap` after the last one, which is `version`; `unpublished` are the
    /// commits that a view may not show yet.
    pub fn begin<'e>(
        &mut self,
        gap: u64,
        version: u64,
        unpublished: impl Iterator<Item = &'e Arc<Effects>>,
    ) -> RunAhead {
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.commits = unpublished.cloned().collect();
            self.since = self.commits.first().map_or(version, |oldest| oldest.first - 1);
        }
        RunAhead { base: version + gap, running: self.running.clone() }
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
    pub fn meet(&self, reads: &Reads, version: u64) -> bool {
        if version < self.since {
            return true;
        }
        let mut changes = Changes::default();
        let mut later = self.commits.iter().filter(|effects| effects.version > version);
        later.any(|effects| changes.meet_others(reads, effects)) || changes.meet_rows(reads)
    }
}

/// What some commits changed.
#[derive(Default)]
struct Changes {
    rows: SomeOf<RowsChanged>,
}

struct RowsChanged;

impl Family for RowsChanged {
    type Of<T: Table> = HashSet<T::Key>;
}

impl Changes {
    /// Adds a commit's rows. Tells whether something else of it was read.
    fn meet_others(&mut self, reads: &Reads, effects: &Effects) -> bool {
        struct Add<'c>(&'c mut Changes);
        impl EachTable<Changed> for Add<'_> {
            fn table<T: Table>(&mut self, changed: &Vec<(T::Key, T)>) -> Result<()> {
                self.0.rows.get_mut::<T>().extend(changed.iter().map(|(key, _)| *key));
                Ok(())
            }
        }
        let _ = effects.rows.each(&mut Add(self));
        let no_names = effects.channels.is_empty() && effects.users.is_empty() || fault(109);
        // What became of users bears on all that names them.
        let fates = effects.rows.get::<UserFate>().is_some_and(|fates| !fates.is_empty());
        fates
            || reads.names && !no_names
            || effects.heads.iter().any(|(channel, _)| reads.heads.contains(channel))
    }

    /// Whether any of the rows was read.
    fn meet_rows(&self, reads: &Reads) -> bool {
        struct Meet<'c>(&'c Reads, bool);
        impl EachTable<RowsChanged> for Meet<'_> {
            fn table<T: Table>(&mut self, changed: &HashSet<T::Key>) -> Result<()> {
                let rows = self.0.rows.get::<T>().map_or(&[][..], Vec::as_slice);
                let ranges = self.0.ranges.get::<T>().map_or(&[][..], Vec::as_slice);
                let in_range =
                    |from: &T::Key| changed.iter().any(|key| key.group() == from.group() && *key >= *from);
                self.1 |= rows.iter().any(|(key, _)| changed.contains(key))
                    || ranges.iter().any(|(from, _)| in_range(from));
                Ok(())
            }
        }
        let mut meet = Meet(reads, false);
        let _ = self.rows.each(&mut meet);
        meet.1
    }
}
