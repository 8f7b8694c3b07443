//! What a batch needs from files, read before the writer's lock is taken.
//!
//! Names are looked up at a view, and operations that need rows or marks are run on top of that view for trial: what they
//! read is kept, what they change is dropped. Under the lock the same operations run again ([`Staging`]); then only the
//! layers in memory are looked at that may have changed since the view, and what was read before stands for the rest. If
//! something else turns out to be needed, because an unpublished commit changed the course, it is noted and the batch is
//! prepared again with it. No file is read under the lock.

use super::overlay::Overlay;
use super::transaction::{Name, OpNames, Source, Transact, Trial};
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::table::HashKey;
use crate::kernel::messages;
use crate::kernel::{Counts, Kernel, Moment, View};
use crate::model::batch::Batch;
use crate::model::head::{Head, Loss};
use crate::model::ids::{ChannelId, Named};
use crate::model::mark::Mark;
use crate::model::op::{Limits, NamesOf};
use crate::model::{EachTable, EachTableMut, Family, Table, Tables};

/// What was read for a batch.
pub struct Prepared {
    /// The counts of the reading.
    counts: Counts,
    /// The log segment of that time. Its moment is not held: else each commit would keep old images for itself.
    segment: u64,
    /// The names of each operation.
    pub names: Vec<OpNames>,
    rows: Tables<Read>,
    marks: Vec<((ChannelId, u64), Mark)>,
}

/// Rows that were read, by table, in the order of reading; `None` for those that don't exist.
struct Read;

impl Family for Read {
    type Of<T: Table> = Vec<(T::Key, Option<T>)>;
}

/// How far the rows were read again, by table.
struct Again;

impl Family for Again {
    type Of<T: Table> = usize;
}

/// Finds what was read. It is wanted again in nearly the same order, so that it nearly always stands at `next`.
fn find_again<'r, K: PartialEq, V>(read: &'r [(K, V)], next: &mut usize, key: &K) -> Option<&'r V> {
    let from = (*next).min(read.len());
    let at = (from..read.len()).chain(0..from).find(|at| read[*at].0 == *key)?;
    *next = at + 1;
    Some(&read[at].1)
}

/// What was found to be missing under the lock.
#[derive(Default)]
pub struct Wanted {
    rows: Tables<WantedRows>,
    marks: Vec<(ChannelId, u64)>,
}

impl Wanted {
    /// Adds what was found to be missing next. All of it is kept until the batch is done: a run that stops at one row needs
    /// those of the runs before it too.
    pub fn extend(&mut self, more: Wanted) {
        struct Extend<'m>(&'m Tables<WantedRows>);
        impl EachTableMut<WantedRows> for Extend<'_> {
            fn table<T: Table>(&mut self, keys: &mut Vec<T::Key>) -> Result<()> {
                keys.extend(T::of(self.0));
                Ok(())
            }
        }
        let _ = self.rows.each_mut(&mut Extend(&more.rows));
        self.marks.extend(more.marks);
    }
}

struct WantedRows;

impl Family for WantedRows {
    type Of<T: Table> = Vec<T::Key>;
}

impl Prepared {
    /// Checks a batch's fields, looks its names up, and reads what it needs, also what is `wanted`.
    pub fn new(view: View, batch: &Batch, limits: &Limits, wanted: &Wanted, now: i64) -> Result<Prepared> {
        let (names, last) = look_up(&view, batch, limits)?;
        let mut reading = BatchReading {
            prepared: Prepared {
                counts: view.moment.counts,
                segment: view.moment.active.log.header.segment,
                names,
                rows: Tables::default(),
                marks: Vec::new(),
            },
            view,
        };
        reading.read_wanted(wanted)?;
        if let Some(last) = last {
            reading.try_out(batch, last, now)?;
        }
        Ok(reading.prepared)
    }
}

/// Checks the operations one by one and finds the ids of their names, and which operation is the last that reads.
fn look_up(view: &View, batch: &Batch, limits: &Limits) -> Result<(Vec<OpNames>, Option<usize>)> {
    let mut last_reader = None;
    let mut found = Vec::with_capacity(batch.len());
    // Most batches name the same channel or sender again and again.
    let mut last: [(&[u8], Name); 2] = [(&[], Name::Unknown), (&[], Name::Unknown)];
    for (index, mut op) in batch.ops().enumerate() {
        let mut names = NamesOf::default();
        op.fields(&mut names);
        names.check(index)?;
        op.check(limits).map_err(|error| error.at(index))?;
        if op.reads() {
            last_reader = Some(index);
        }
        let find = |named: Named, name: &[u8]| -> Result<Name> {
            Ok(match view.find(named, name)? {
                Some(id) => Name::Known(id),
                None => Name::Unknown,
            })
        };
        for (named, name) in [(Named::Channel, names.channel), (Named::User, names.user)] {
            let name = name.unwrap_or_default();
            let kept = &mut last[named as usize];
            if kept.0 != name || name.is_empty() {
                *kept = (name, find(named, name)?);
            }
        }
        found.push(OpNames { channel: last[0].1, user: last[1].1 });
    }
    Ok((found, last_reader))
}

/// A batch on trial, on top of a view.
struct BatchReading {
    view: View,
    prepared: Prepared,
}

impl BatchReading {
    fn read_wanted(&mut self, wanted: &Wanted) -> Result<()> {
        struct Rows<'r>(&'r mut BatchReading);
        impl EachTable<WantedRows> for Rows<'_> {
            fn table<T: Table>(&mut self, keys: &Vec<T::Key>) -> Result<()> {
                keys.iter().try_for_each(|key| self.0.row::<T>(*key).map(drop))
            }
        }
        wanted.rows.each(&mut Rows(self))?;
        wanted.marks.iter().try_for_each(|(channel, seq)| self.mark(*channel, *seq).map(drop))
    }

    /// Runs what reads, for what it reads. A refusal is none yet: the state may be another by the time that counts.
    fn try_out(&mut self, batch: &Batch, last: usize, now: i64) -> Result<()> {
        let names = std::mem::take(&mut self.prepared.names);
        let mut overlay = Overlay::new(self.view.moment.counts);
        let mut out = Vec::new();
        let mut txn = Transact::new(&mut *self, &mut overlay, &mut out, now);
        for (index, op) in batch.ops().enumerate().take(last + 1).filter(|(_, op)| op.reads()) {
            txn.enter(index, names[index]);
            txn.trial = Some(if index == last { Trial::Last } else { Trial::First });
            match op.run(&mut txn) {
                Ok(_)
                | Err(Error::NotMember { .. } | Error::InvalidArgument { .. } | Error::TooLarge { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.prepared.names = names;
        Ok(())
    }
}

impl Source for &mut BatchReading {
    fn losses(&self) -> &[Loss] {
        &self.view.moment.files.losses
    }

    fn hash_key(&self) -> &HashKey {
        &self.view.moment.files.key
    }

    fn head(&self, channel: ChannelId) -> Head {
        self.view.head_of(channel)
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        self.view.find(named, name)
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        BatchReading::row(self, key)
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        BatchReading::mark(self, channel, seq)
    }
}

impl BatchReading {
    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        let row = self.view.row::<T>(key)?;
        T::of_mut(&mut self.prepared.rows).push((key, row.clone()));
        Ok(row)
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        let mark = messages::mark_at(&self.view, channel, seq)?;
        self.prepared.marks.push(((channel, seq), mark));
        Ok(mark)
    }
}

/// A prepared batch under the writer's lock.
pub struct Staging<'a> {
    kernel: &'a Kernel,
    prepared: &'a Prepared,
    moment: Arc<Moment>,
    /// Whether something was published since the batch was prepared.
    changed: bool,
    again_rows: Tables<Again>,
    again_marks: usize,
    /// What was needed and not there.
    pub wanted: Wanted,
    /// Whether something was.
    pub again: bool,
}

impl<'a> Staging<'a> {
    /// The memory of the layer that commits are put into.
    pub fn weight(&self) -> usize {
        self.moment.active.weight()
    }

    /// Goes back to the beginning of what was read.
    pub fn rewind(&mut self) {
        (self.again_rows, self.again_marks) = (Tables::default(), 0);
    }

    /// `None` if a layer that may have changed since the batch was prepared is no longer in memory.
    pub fn new(kernel: &'a Kernel, prepared: &'a Prepared) -> Option<Staging<'a>> {
        let moment = kernel.moment();
        let staging = Staging {
            kernel,
            prepared,
            changed: moment.counts.version != prepared.counts.version,
            moment,
            again_rows: Tables::default(),
            again_marks: 0,
            wanted: Wanted::default(),
            again: false,
        };
        let oldest = staging.layers().last()?.log.header.segment;
        (oldest == prepared.segment).then_some(staging)
    }

    /// The layers that may have changed since, newest first.
    fn layers(&self) -> impl Iterator<Item = &Arc<crate::kernel::Layer>> {
        let since = self.prepared.segment;
        let frozen = self.moment.files.frozen.iter().rev();
        [&self.moment.active]
            .into_iter()
            .chain(frozen)
            .take_while(move |layer| layer.log.header.segment >= since)
    }

    fn miss(&mut self) -> Error {
        self.again = true;
        Error::ViewExpired
    }
}

impl Source for &mut Staging<'_> {
    fn losses(&self) -> &[Loss] {
        &self.moment.files.losses
    }

    fn hash_key(&self) -> &HashKey {
        &self.moment.files.key
    }

    fn head(&self, channel: ChannelId) -> Head {
        self.kernel.newest_head(channel)
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        if !self.changed {
            return Ok(None);
        }
        // It was unknown before these layers.
        Ok(self.layers().find_map(|layer| layer.find(named, name)))
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        if self.changed
            && let Some(row) = self.layers().find_map(|layer| layer.newest::<T>(key))
        {
            return Ok(Some(row));
        }
        // A name that was made since has no row in any file.
        if !self.prepared.counts.know(key) {
            return Ok(None);
        }
        let next = T::of_mut(&mut self.again_rows);
        match find_again(T::of(&self.prepared.rows), next, &key) {
            Some(row) => Ok(row.clone()),
            None => {
                T::of_mut(&mut self.wanted.rows).push(key);
                Err(self.miss())
            }
        }
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        match find_again(&self.prepared.marks, &mut self.again_marks, &(channel, seq)) {
            Some(mark) => Ok(*mark),
            None => {
                self.wanted.marks.push((channel, seq));
                Err(self.miss())
            }
        }
    }
}
