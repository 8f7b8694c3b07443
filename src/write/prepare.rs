//! What a batch needs from files, read before the writer's lock is taken.
//!
//! Names are looked up at a view, and operations that need rows or marks are run on top of that view for trial: what they
//! read is kept, what they change is dropped. Under the lock the same operations run again ([`Staging`]); then only the
//! layers in memory are looked at that may have changed since the view, and what was read before stands for the rest. If
//! something else turns out to be needed, because an unpublished commit changed the course, it is noted and the batch is
//! prepared again with it. No file is read under the lock.

use hashbrown::HashMap;

use super::overlay::Overlay;
use super::transaction::{Name, Names, Source, Transact};
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::kernel::messages;
use crate::kernel::{Kernel, Moment, View};
use crate::model::batch::Batch;
use crate::model::head::{Head, Loss};
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::TableKey;
use crate::model::mark::Mark;
use crate::model::op::{Limits, NamesOf};
use crate::model::{EachTable, EachTableMut, Family, Table, Tables};

/// What was read for a batch.
pub struct Prepared {
    /// The moment of the reading.
    moment: Arc<Moment>,
    /// The names of each operation.
    pub names: Vec<Names>,
    rows: Tables<Read>,
    marks: HashMap<(ChannelId, u64), Mark>,
}

/// Rows that were read, by table; `None` for those that don't exist.
struct Read;

impl Family for Read {
    type Of<T: Table> = HashMap<T::Key, Option<T>>;
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
        let names = look_up(&view, batch, limits)?;
        let mut reading = Reading {
            prepared: Prepared {
                moment: view.moment.clone(),
                names,
                rows: Tables::default(),
                marks: HashMap::new(),
            },
            view,
        };
        reading.read_wanted(wanted)?;
        if batch.ops().any(|op| op.reads()) {
            reading.try_out(batch, now)?;
        }
        Ok(reading.prepared)
    }
}

/// Checks the operations one by one and finds the ids of their names.
fn look_up(view: &View, batch: &Batch, limits: &Limits) -> Result<Vec<Names>> {
    let mut found = Vec::with_capacity(batch.len());
    // Most batches name the same channel or sender again and again.
    let mut last: [(&[u8], Name); 2] = [(&[], Name::Unknown), (&[], Name::Unknown)];
    for (index, mut op) in batch.ops().enumerate() {
        let mut names = NamesOf::default();
        op.fields(&mut names);
        names.check(index)?;
        op.check(limits).map_err(|error| error.at(index))?;
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
        found.push(Names { channel: last[0].1, user: last[1].1 });
    }
    Ok(found)
}

/// A batch on trial, on top of a view.
struct Reading {
    view: View,
    prepared: Prepared,
}

impl Reading {
    fn read_wanted(&mut self, wanted: &Wanted) -> Result<()> {
        struct Rows<'r>(&'r mut Reading);
        impl EachTable<WantedRows> for Rows<'_> {
            fn table<T: Table>(&mut self, keys: &Vec<T::Key>) -> Result<()> {
                keys.iter().try_for_each(|key| self.0.row::<T>(*key).map(drop))
            }
        }
        wanted.rows.each(&mut Rows(self))?;
        wanted.marks.iter().try_for_each(|(channel, seq)| self.mark(*channel, *seq).map(drop))
    }

    /// Runs what reads, for what it reads. A refusal is none yet: the state may be another by the time that counts.
    fn try_out(&mut self, batch: &Batch, now: i64) -> Result<()> {
        let names = std::mem::take(&mut self.prepared.names);
        let mut overlay = Overlay::new(self.view.moment.counts);
        let mut out = Vec::new();
        for (index, op) in batch.ops().enumerate().filter(|(_, op)| op.reads()) {
            out.clear();
            let mut txn = Transact::new(&mut *self, &mut overlay, &mut out, now);
            txn.enter(index, names[index]);
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

impl Source for &mut Reading {
    fn losses(&self) -> &[Loss] {
        &self.view.moment.files.losses
    }

    fn head(&self, channel: ChannelId) -> Head {
        self.view.head_of(channel)
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        self.view.find(named, name)
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        Reading::row(self, key)
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        Reading::mark(self, channel, seq)
    }
}

impl Reading {
    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        let row = self.view.row::<T>(key)?;
        T::of_mut(&mut self.prepared.rows).insert(key, row.clone());
        Ok(row)
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        let mark = messages::mark_at(&self.view, channel, seq)?;
        self.prepared.marks.insert((channel, seq), mark);
        Ok(mark)
    }
}

/// A prepared batch under the writer's lock.
pub struct Staging<'a> {
    kernel: &'a Kernel,
    prepared: &'a Prepared,
    moment: Arc<Moment>,
    /// What was needed and not there.
    pub wanted: Wanted,
    /// Whether something was.
    pub again: bool,
}

impl<'a> Staging<'a> {
    /// `None` if a layer that may have changed since the batch was prepared is no longer in memory.
    pub fn new(kernel: &'a Kernel, prepared: &'a Prepared) -> Option<Staging<'a>> {
        let moment = kernel.moment();
        let staging = Staging { kernel, prepared, moment, wanted: Wanted::default(), again: false };
        let oldest = staging.layers().last()?.log.header.segment;
        (oldest == prepared.moment.active.log.header.segment).then_some(staging)
    }

    /// The layers that may have changed since, newest first.
    fn layers(&self) -> impl Iterator<Item = &Arc<crate::kernel::Layer>> {
        let since = self.prepared.moment.active.log.header.segment;
        let frozen = self.moment.files.frozen.iter().rev();
        [&self.moment.active]
            .into_iter()
            .chain(frozen)
            .take_while(move |layer| layer.log.header.segment >= since)
    }

    /// Whether there were such a channel and such a user when the batch was prepared.
    fn knew(&self, (channel, user): (ChannelId, UserId)) -> bool {
        let counts = &self.prepared.moment.counts;
        channel.0 < counts.channels && user.0 < counts.users
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

    fn head(&self, channel: ChannelId) -> Head {
        self.kernel.newest_head(channel)
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        // It was unknown before these layers.
        Ok(self.layers().find_map(|layer| layer.find(named, name)))
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        if let Some(row) = self.layers().find_map(|layer| layer.newest::<T>(key)) {
            return Ok(Some(row));
        }
        match T::of(&self.prepared.rows).get(&key) {
            Some(row) => Ok(row.clone()),
            // A name that was made since has no row in any file.
            None if !self.knew(key.ids()) => Ok(None),
            None => {
                T::of_mut(&mut self.wanted.rows).push(key);
                Err(self.miss())
            }
        }
    }

    fn mark(&mut self, channel: ChannelId, seq: u64) -> Result<Mark> {
        match self.prepared.marks.get(&(channel, seq)) {
            Some(mark) => Ok(*mark),
            None => {
                self.wanted.marks.push((channel, seq));
                Err(self.miss())
            }
        }
    }
}
