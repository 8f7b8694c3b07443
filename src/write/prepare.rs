//! What is done for a batch before the writer's lock is taken.
//!
//! Names are looked up at a view, and a batch that needs rows or marks is run on top of that view as a [`Trial`]. If nothing
//! was committed between that view and the lock, what came of it is adopted as it is, and no operation runs under the lock.
//! Otherwise they run again there ([`Staging`]); then only the layers in memory are looked at that may have changed since the
//! view, and what the trial read stands for the rest. If something else turns out to be needed, because a commit meanwhile
//! changed the course, it is noted and the batch is prepared again with it. No file is read under the lock.

use std::cell::RefCell;
use std::ops::ControlFlow;

use hashbrown::{HashMap, HashSet};

use super::overlay::Overlay;
use super::reads::{Reads, find_again};
use super::transaction::{BatchTime, Name, OpNames, Ran, Source, Transact, said};
use crate::env::fault;
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::log::start_frame;
use crate::files::table::HashKey;
use crate::kernel::layer::Content;
use crate::kernel::messages;
use crate::kernel::view::OWN_LAYER;
use crate::kernel::{Counts, Kernel, Moment, View};
use crate::model::batch::Batch;
use crate::model::fate::UserFate;
use crate::model::head::{Loss, PackedHead};
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::message::{Origin, Said};
use crate::model::op::{Limits, NamesOf};
use crate::model::window::SendWindow;
use crate::model::{EachTable, Family, Op, SomeOf, Table};

/// How many rows are copied out of a layer under one hold of its lock.
const TOGETHER: usize = 128;

/// What was read for a batch.
pub struct Prepared {
    /// The counts of the reading.
    pub counts: Counts,
    /// The batch's time.
    pub time: BatchTime,
    /// The log segment of that time. Its moment is not held: else each commit would keep old images for itself.
    segment: u64,
    /// The names of each operation.
    pub names: Vec<OpNames>,
    /// The users of names in lists, deleted ones too, as far as they were known.
    listed: HashMap<Vec<u8>, u32>,
    /// What was read.
    pub reads: Reads,
}

/// What running a batch on top of a view gave.
pub struct Trial {
    /// Outcomes and effects. Records lie by their places in the frame.
    pub ran: Ran,
    /// The index of the effects, if it was run ahead and there are many.
    pub own: Option<Box<Content>>,
    /// The frame for the log, its header still missing, and the effects over that view.
    pub slate: Slate,
}

/// Memory to run a batch in: both are empty at first. Used again and again, as most batches are small.
pub struct Slate {
    /// For the effects, with a journal that takes them back.
    pub overlay: Box<Overlay>,
    /// For the frame.
    pub frame: Vec<u8>,
}

impl Trial {
    /// Indexes what a batch changes that was run ahead on top of a state with these names.
    fn index(&mut self, names: Counts) {
        let effects = &mut self.ran.effects;
        // Each head once: what is published under a lock should be little.
        effects.heads = self.slate.overlay.heads().collect();
        if effects.len() >= OWN_LAYER {
            let start = Counts { version: effects.first - 1, ..names };
            self.own = Some(Box::new(Content::of(effects, start)));
        }
    }
}

impl Slate {
    /// A new one.
    pub fn new() -> Slate {
        Slate { overlay: Box::new(Overlay::new(Counts::default())), frame: Vec::new() }
    }
}

/// How far the rows were read again, by table.
struct Again;

impl Family for Again {
    type Of<T: Table> = usize;
}

/// What was found to be missing under the lock.
#[derive(Default)]
pub struct Wanted {
    rows: SomeOf<WantedRows>,
    /// Where ranges begin.
    ranges: SomeOf<WantedRows>,
    messages: Vec<(ChannelId, u64)>,
    /// What messages were sent with.
    said: Vec<(ChannelId, u64)>,
    /// Whether to wait until all is published that is written.
    pub unpublished: bool,
}

impl Wanted {
    /// Adds what was found to be missing next. All of it is kept until the batch is done: a run that stops at one row needs
    /// those of the runs before it too.
    pub fn extend(&mut self, more: Wanted) {
        struct Extend<'w>(&'w mut SomeOf<WantedRows>);
        impl EachTable<WantedRows> for Extend<'_> {
            fn table<T: Table>(&mut self, more: &Vec<T::Key>) -> Result<()> {
                self.0.get_mut::<T>().extend(more);
                Ok(())
            }
        }
        let _ = more.rows.each(&mut Extend(&mut self.rows));
        let _ = more.ranges.each(&mut Extend(&mut self.ranges));
        self.messages.extend(more.messages);
        self.said.extend(more.said);
    }
}

struct WantedRows;

impl Family for WantedRows {
    type Of<T: Table> = Vec<T::Key>;
}

impl Prepared {
    /// Checks a batch's fields, looks its names up, and reads what it needs, also what is `wanted`. If it needs anything, it
    /// is run on trial, on a slate; there is no trial if it was refused, which counts for nothing: the state may be another by
    /// the time that decides. With `ahead` it is run on trial in any case, with versions after that one.
    pub fn new(
        view: View,
        batch: &Batch,
        limits: &Limits,
        wanted: &Wanted,
        (time, ahead): (BatchTime, Option<u64>),
        slate: impl FnOnce() -> Slate,
    ) -> Result<(Prepared, Option<Box<Trial>>)> {
        let LookedUp { names, listed, reads, positioned } = look_up(&view, batch, limits)?;
        if view.kernel.options.replica && !positioned {
            return Err(Error::NoPosition);
        }
        let mut reading = BatchReading {
            prepared: Prepared {
                counts: view.moment.counts,
                time,
                segment: view.moment.active.log.header.segment,
                names,
                listed,
                reads: Reads::default(),
            },
            view,
            heads: ahead.map(|_| RefCell::default()),
        };
        reading.read_wanted(wanted)?;
        let version = ahead.unwrap_or(reading.prepared.counts.version);
        let mut trial =
            if reads || ahead.is_some() { reading.try_out(batch, slate(), version)? } else { None };
        if let Some(heads) = reading.heads.take() {
            reading.prepared.reads.heads = heads.into_inner();
            trial.iter_mut().for_each(|trial| trial.index(reading.prepared.counts));
        }
        Ok((reading.prepared, trial))
    }
}

/// What a look at a batch's operations gave.
struct LookedUp {
    names: Vec<OpNames>,
    listed: HashMap<Vec<u8>, u32>,
    /// Whether any operation reads.
    reads: bool,
    /// Whether any is the position of a log.
    positioned: bool,
}

/// Checks the operations one by one and finds the ids of their names, and whether any reads.
fn look_up(view: &View, batch: &Batch, limits: &Limits) -> Result<LookedUp> {
    let (mut listed, mut reads, mut positioned) = (HashMap::new(), false, false);
    let mut found = Vec::with_capacity(batch.len());
    // Most batches name the same channel or sender again and again.
    let mut last: [(&[u8], Name); 2] = [(&[], Name::Unknown), (&[], Name::Unknown)];
    for (index, mut op) in batch.ops().enumerate() {
        let mut names = NamesOf::default();
        op.fields(&mut names);
        names.check(index)?;
        op.check(limits).map_err(|error| error.at(index))?;
        reads |= op.reads();
        positioned |= matches!(op, Op::SetPosition(_));
        for name in &names.listed {
            if let Some(id) = view.find_any(Named::User, name)? {
                listed.insert(name.to_vec(), id);
            }
        }
        let find = |named: Named, name: &[u8]| -> Result<Name> {
            Ok(match view.find_any(named, name)? {
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
    Ok(LookedUp { names: found, listed, reads, positioned })
}

/// A batch on trial, on top of a view.
struct BatchReading {
    view: View,
    prepared: Prepared,
    /// The heads that are read, if it is run ahead.
    heads: Option<RefCell<HashSet<ChannelId>>>,
}

impl BatchReading {
    fn read_wanted(&mut self, wanted: &Wanted) -> Result<()> {
        struct Rows<'r>(&'r mut BatchReading);
        impl EachTable<WantedRows> for Rows<'_> {
            fn table<T: Table>(&mut self, keys: &Vec<T::Key>) -> Result<()> {
                keys.iter().try_for_each(|key| self.0.row::<T>(*key).map(drop))
            }
        }
        struct Ranges<'r>(&'r mut BatchReading);
        impl EachTable<WantedRows> for Ranges<'_> {
            fn table<T: Table>(&mut self, keys: &Vec<T::Key>) -> Result<()> {
                keys.iter().try_for_each(|from| self.0.range::<T>(*from).map(drop))
            }
        }
        wanted.rows.each(&mut Rows(self))?;
        wanted.ranges.each(&mut Ranges(self))?;
        wanted.messages.iter().try_for_each(|(channel, seq)| self.origin(*channel, *seq).map(drop))?;
        wanted.said.iter().try_for_each(|(channel, seq)| self.said(*channel, *seq).map(drop))
    }

    /// Runs the batch. After a refusal it goes on for what is read.
    fn try_out(&mut self, batch: &Batch, mut slate: Slate, version: u64) -> Result<Option<Box<Trial>>> {
        let names = std::mem::take(&mut self.prepared.names);
        let time = self.prepared.time;
        slate.overlay.begin_at(Counts { version, ..self.view.moment.counts });
        start_frame(&mut slate.frame);
        let mut txn = Transact::new(&mut *self, &mut slate.overlay, &mut slate.frame, time);
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut refused = false;
        for (index, op) in batch.ops().enumerate() {
            match txn.run_one(index, &op, names[index]) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if error.is_refusal() => refused = true,
                Err(error) => return Err(error),
            }
        }
        let ran = txn.end(outcomes);
        self.prepared.names = names;
        Ok((!refused).then(|| Box::new(Trial { ran, own: None, slate })))
    }
}

impl Source for &mut BatchReading {
    fn losses(&self) -> &[Loss] {
        &self.view.moment.files.losses
    }

    fn hash_key(&self) -> &HashKey {
        &self.view.moment.files.key
    }

    fn window(&self) -> SendWindow {
        self.view.kernel.options.window()
    }

    fn head(&self, channel: ChannelId) -> PackedHead {
        if let Some(heads) = &self.heads {
            heads.borrow_mut().insert(channel);
        }
        PackedHead::from(&self.view.head_of(channel))
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        self.prepared.reads.names = true;
        self.view.find_any(named, name)
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        BatchReading::row(self, key)
    }

    fn each_after<T: Table>(&mut self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) -> Result<()> {
        self.range::<T>(from)?.iter().for_each(|(key, row)| visit(*key, row));
        Ok(())
    }

    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin> {
        BatchReading::origin(self, channel, seq)
    }

    fn any_fates(&self) -> bool {
        !self.view.kernel.fates.is_empty()
    }

    fn fate(&self, user: UserId) -> Option<UserFate> {
        self.view.kernel.fates.get(user)
    }

    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>> {
        BatchReading::said(self, channel, seq)
    }

    fn unpublished(&mut self) -> Error {
        // A view has nothing unpublished but the batch itself, whose messages are at hand.
        Error::ViewExpired
    }
}

impl BatchReading {
    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        let row = self.view.row::<T>(key)?;
        self.prepared.reads.rows.get_mut::<T>().push((key, row.clone()));
        Ok(row)
    }

    /// The rows of a group from a key on, which are read once.
    fn range<T: Table>(&mut self, from: T::Key) -> Result<&[(T::Key, T)]> {
        let ranges = self.prepared.reads.ranges.get_mut::<T>();
        let known = ranges.iter().position(|(start, _)| *start == from);
        let at = match known {
            Some(at) => at,
            None => {
                let mut rows = Vec::new();
                let mut scan = self.view.scan::<T>(from, 0)?;
                while let Some(row) = scan.next()? {
                    rows.push(row);
                }
                ranges.push((from, rows));
                ranges.len() - 1
            }
        };
        Ok(&ranges[at].1)
    }

    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin> {
        let origin = messages::origin_at(&self.view, channel, seq)?;
        self.prepared.reads.messages.push(((channel, seq), origin));
        Ok(origin)
    }

    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>> {
        let (mut found, key) = (None, self.view.moment.files.key);
        self.view.messages(channel, seq..=seq, false, 1).read(&mut |_, record| {
            found = Some(said(&key, record));
            Ok(ControlFlow::Break(()))
        })?;
        // Beyond the channel's end something may come yet.
        if seq <= self.view.head_of(channel).last.seq {
            self.prepared.reads.said.push(((channel, seq), found));
        }
        Ok(found)
    }
}

/// A prepared batch under the writer's lock.
pub struct Staging<'a> {
    kernel: &'a Kernel,
    prepared: &'a Prepared,
    moment: Arc<Moment>,
    /// Whether something was published since the batch was prepared.
    changed: bool,
    again_rows: SomeOf<Again>,
    again_messages: usize,
    again_said: usize,
    /// What was needed and not there.
    pub wanted: Wanted,
    /// Whether something was.
    pub again: bool,
}

impl<'a> Staging<'a> {
    /// The memory of the layers of the log segment that is written to.
    pub fn weight(&self) -> usize {
        self.moment.written().map(|layer| layer.weight()).sum()
    }

    /// Goes back to the beginning of what was read.
    pub fn rewind(&mut self) {
        (self.again_rows, self.again_messages, self.again_said) = (SomeOf::default(), 0, 0);
    }

    /// `None` if a layer that may have changed since the batch was prepared is no longer in memory.
    pub fn new(kernel: &'a Kernel, prepared: &'a Prepared) -> Option<Staging<'a>> {
        let moment = kernel.moment();
        let staging = Staging {
            kernel,
            prepared,
            changed: moment.counts.version != prepared.counts.version,
            moment,
            again_rows: SomeOf::default(),
            again_messages: 0,
            again_said: 0,
            wanted: Wanted::default(),
            again: false,
        };
        let oldest = staging.layers().last()?.log.header.segment;
        (oldest == prepared.segment || fault(113)).then_some(staging)
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

    /// The rows of a group from a key on that changed since the batch was prepared.
    fn newer_rows<T: Table>(&self, from: T::Key) -> HashMap<T::Key, T> {
        let mut found = HashMap::new();
        let mut rows = Vec::new();
        for layer in self.layers().take_while(|_| self.changed) {
            let mut next = Some(from);
            while let Some(from) = next {
                next = layer.rows::<T>(from, u64::MAX, self.prepared.counts.version, TOGETHER, &mut rows);
                // The newest layer comes first.
                rows.drain(..).for_each(|(key, row)| _ = found.entry(key).or_insert(row));
            }
        }
        found
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

    fn window(&self) -> SendWindow {
        self.kernel.options.window()
    }

    fn head(&self, channel: ChannelId) -> PackedHead {
        self.kernel.newest_packed(channel)
    }

    fn find(&mut self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        // It was unknown before these layers, or what had it was deleted.
        let newer = || self.layers().find_map(|layer| layer.find(named, name, u32::MAX));
        match if self.changed { newer() } else { None } {
            None if named == Named::User => Ok(self.prepared.listed.get(name).copied()),
            found => Ok(found),
        }
    }

    fn row<T: Table>(&mut self, key: T::Key) -> Result<Option<T>> {
        if self.changed
            && !fault(16)
            && let Some(row) = self.layers().find_map(|layer| layer.newest::<T>(key))
        {
            return Ok(Some(row));
        }
        // A name that was made since has no row in any file.
        if !self.prepared.counts.know(key) {
            return Ok(None);
        }
        let read = self.prepared.reads.rows.get::<T>().map_or(&[][..], Vec::as_slice);
        let next = self.again_rows.get_mut::<T>();
        match find_again(read, next, &key) {
            Some(row) => Ok(row.clone()),
            None => {
                self.wanted.rows.get_mut::<T>().push(key);
                Err(self.miss())
            }
        }
    }

    fn each_after<T: Table>(&mut self, from: T::Key, visit: &mut dyn FnMut(T::Key, &T)) -> Result<()> {
        let newer = self.newer_rows::<T>(from);
        // A name that was made since has no row in any file.
        if self.prepared.counts.know(from) {
            let ranges = self.prepared.reads.ranges.get::<T>().map_or(&[][..], Vec::as_slice);
            let Some((_, rows)) = ranges.iter().find(|(start, _)| *start == from) else {
                self.wanted.ranges.get_mut::<T>().push(from);
                return Err(self.miss());
            };
            let kept = rows.iter().filter(|(key, _)| !newer.contains_key(key));
            kept.for_each(|(key, row)| visit(*key, row));
        }
        newer.iter().for_each(|(key, row)| visit(*key, row));
        Ok(())
    }

    fn any_fates(&self) -> bool {
        !self.kernel.fates.is_empty()
    }

    fn fate(&self, user: UserId) -> Option<UserFate> {
        self.kernel.fates.get(user)
    }

    fn origin(&mut self, channel: ChannelId, seq: u64) -> Result<Origin> {
        match find_again(&self.prepared.reads.messages, &mut self.again_messages, &(channel, seq)) {
            Some(origin) => Ok(*origin),
            None => {
                self.wanted.messages.push((channel, seq));
                Err(self.miss())
            }
        }
    }

    fn said(&mut self, channel: ChannelId, seq: u64) -> Result<Option<Said>> {
        match find_again(&self.prepared.reads.said, &mut self.again_said, &(channel, seq)) {
            Some(said) => Ok(*said),
            // Nothing that is published is there, and what is not was looked for in the overlay: a channel may go on far beyond its
            // last message.
            None if seq > self.kernel.newest_head(channel).last.seq => Ok(None),
            None => {
                self.wanted.said.push((channel, seq));
                Err(self.miss())
            }
        }
    }

    fn unpublished(&mut self) -> Error {
        self.wanted.unpublished = true;
        self.miss()
    }
}
