//! Tells a view as facts.
//!
//! Names, heads and messages are asked of the view; rows come from a walk over each table, layers and runs together, and
//! rows of tables that this release does not know from the runs alone, as no log has any.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pardon::Pardon;
use super::records::Records;
use super::rows::key_fact;
use super::{Fact, MessageFact, MissingValue, RowFact, StoreFact, UnknownTable, ValueFact};
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::record::Record;
use crate::files::table::{Merge, Run, RunEntry};
use crate::kernel::scan::{LostNotes, LostRows, Scan};
use crate::kernel::{View, values};
use crate::model::alteration::Alteration;
use crate::model::head::{HEADS, Head};
use crate::model::ids::{ChannelId, MAX_IDS, Named, UserId, VALUES};
use crate::model::image::{Image, TOMBSTONE};
use crate::model::key::{ChannelSeq, Key, TableKey};
use crate::model::state::State;
use crate::model::{TABLES, Table, WithTable, with_table};
use crate::upkeep::dead::Dead;

/// How many names are remembered.
const NAMES: usize = 64;

impl View {
    /// Tells all that the store holds, as of this view: what [`Import`](crate::Import) makes a store of. The order depends on what
    /// the store holds and on nothing else: names by their ids, rows by table and key, messages by version.
    ///
    /// What nobody can read is left out: trimmed messages, payloads of retracted and erased ones, what belongs to deleted
    /// channels but that they were deleted, and long values that no row names any more.
    ///
    /// Costs a read of everything. Memory: about 64 MiB, 8 bytes for each value of more than 1 KiB, and what views cost.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
    /// use chanlog::{Batch, Draft, Import, Options, Store};
    /// let store = Store::open(&path)?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// let mut import = Import::new(&copy, Options::new())?;
    /// for fact in store.view()?.export() {
    ///     import.put(fact?)?;
    /// }
    /// import.finish()?;
    /// assert_eq!(Store::open(&copy)?.head("general")?.last.seq, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) for what can't be read, [`Error::ViewExpired`](crate::Error::ViewExpired);
    /// nothing comes after an error.
    #[must_use]
    pub fn export(&self) -> Export<'_> {
        Export::new(self, Pardon::default(), None)
    }
}

/// Tells facts, one after another. Made by [`View::export`].
pub struct Export<'v> {
    view: &'v View,
    stage: Stage<'v>,
    /// The tables to come, the next one last.
    tables: Vec<u8>,
    dead: Dead,
    /// The versions of the values that rows name; `None` if that is not known of all rows.
    named: Option<Vec<u64>>,
    names: [Option<(Named, u32, Bytes)>; NAMES],
    pub(super) pardon: Pardon,
    /// Rows that can't be read.
    lost: Option<LostNotes>,
    /// Names that can't be read, for which others stand: whether they are of channels, and their ids.
    pub(super) unnamed: BTreeMap<(bool, u32), Bytes>,
    /// Where damage is passed by: which rows name which values, and the versions of the values that were told.
    places: Vec<MissingValue>,
    told: Vec<u64>,
}

/// Which facts come next.
enum Stage<'v> {
    Store,
    Names(Named, u32),
    Rows(Box<dyn RowWalk + Send + 'v>),
    NextTable,
    Records(Box<Records<'v>>),
    End,
}

/// A walk over the rows of a table.
trait RowWalk {
    /// The next row, without names.
    fn next(&mut self, pardon: &mut Pardon) -> Result<Option<RowFact>>;
}

impl<'v> Export<'v> {
    /// Tells a view's facts. With `lost`, rows that can't be read are noted there.
    pub(super) fn new(view: &'v View, pardon: Pardon, lost: Option<LostNotes>) -> Export<'v> {
        let mut tables: Vec<u8> = TABLES.iter().map(|(number, _)| *number).chain([HEADS]).collect();
        tables.extend(view.moment.files.runs.iter().flat_map(|run| run.tables()));
        tables.sort_unstable_by(|one, two| two.cmp(one));
        tables.dedup();
        let dead = Dead::upto(&view.kernel, view.version());
        let (named, names) = (Some(Vec::new()), [const { None }; NAMES]);
        Export {
            view,
            stage: Stage::Store,
            tables,
            dead,
            named,
            names,
            pardon,
            lost,
            unnamed: BTreeMap::new(),
            places: Vec::new(),
            told: Vec::new(),
        }
    }

    /// The values that rows name and that were not told, when all was.
    pub(super) fn missing_values(&mut self) -> Vec<MissingValue> {
        self.told.sort_unstable();
        self.places.retain(|value| self.told.binary_search(&value.version).is_err());
        std::mem::take(&mut self.places)
    }

    pub(super) fn next_fact(&mut self) -> Result<Option<Fact>> {
        self.view.check()?;
        loop {
            match &mut self.stage {
                Stage::Store => {
                    self.stage = Stage::Names(Named::Channel, 0);
                    return Ok(Some(Fact::Store(store_fact(self.view))));
                }
                Stage::Names(named, id) if *id < self.view.moment.counts.names(*named) => {
                    let (kind, next) = (*named, *id);
                    *id += 1;
                    let name = self.name(kind, next)?;
                    return Ok(Some(if kind == Named::Channel {
                        Fact::Channel(name)
                    } else {
                        Fact::User(name)
                    }));
                }
                Stage::Names(Named::Channel, _) => self.stage = Stage::Names(Named::User, 0),
                Stage::Names(Named::User, _) => self.stage = Stage::NextTable,
                Stage::NextTable => self.stage = self.next_table()?,
                Stage::Rows(walk) => match walk.next(&mut self.pardon)? {
                    Some(row) if self.is_dead(&row) => {}
                    Some(row) => return self.row(row).map(Fact::Row).map(Some),
                    None => self.stage = Stage::NextTable,
                },
                Stage::Records(records) => match records.next(&mut self.pardon)? {
                    Some(bytes) => {
                        if let Some(fact) = self.record(&bytes)? {
                            return Ok(Some(fact));
                        }
                    }
                    None => self.stage = Stage::End,
                },
                Stage::End => return Ok(None),
            }
        }
    }

    fn next_table(&mut self) -> Result<Stage<'v>> {
        let view = self.view;
        Ok(match self.tables.pop() {
            Some(HEADS) => Stage::Rows(Box::new(HeadWalk { view, next: 0 })),
            Some(table) => {
                let known = with_table(table, OpenWalk { view, lost: self.lost.clone() });
                Stage::Rows(known.unwrap_or_else(|| UnknownWalk::open(view, table))?)
            }
            None => {
                if let Some(named) = &mut self.named {
                    named.sort_unstable();
                }
                Stage::Records(Box::new(Records::new(view)))
            }
        })
    }

    /// A name. If it can't be read and that is pardoned, one that no other has stands for it.
    pub(super) fn name(&mut self, named: Named, id: u32) -> Result<Bytes> {
        let place = id as usize % NAMES;
        if let Some((kind, known, name)) = &self.names[place]
            && (*kind, *known) == (named, id)
        {
            return Ok(name.clone());
        }
        let name = match self.view.name(named, id) {
            Ok(name) if name.is_empty() => self.stand_in(named, id),
            Ok(name) => Bytes::copy_from_slice(&name),
            Err(fault) => {
                self.pardon.note(fault)?;
                self.stand_in(named, id)
            }
        };
        self.names[place] = Some((named, id, name.clone()));
        Ok(name)
    }

    fn stand_in(&mut self, named: Named, id: u32) -> Bytes {
        let key = (named == Named::Channel, id);
        if let Some(name) = self.unnamed.get(&key) {
            return name.clone();
        }
        let mut name = format!("lost {} {id}", named.word());
        while self.view.find_any(named, name.as_bytes()).is_ok_and(|found| found.is_some()) {
            name.push('\'');
        }
        let name = Bytes::from(name);
        self.unnamed.insert(key, name.clone());
        name
    }

    fn is_dead(&self, row: &RowFact) -> bool {
        let Some(key) = row.raw_key().filter(|_| row.table != HEADS) else { return false };
        self.dead.has(row.table, &RunEntry { key, tag: 0, version: row.version, image: &row.image })
    }

    /// Completes a row, and notes which values it names.
    fn row(&mut self, mut row: RowFact) -> Result<RowFact> {
        let (channel, user) = row.ids();
        row.channel = channel.map(|channel| self.name(Named::Channel, channel.0)).transpose()?;
        row.user = user.map(|user| self.name(Named::User, user.0)).transpose()?;
        match &mut self.named {
            // Which values it names can't be told.
            _ if row.unknown.is_some() => self.named = None,
            Some(named) if row.table != HEADS => {
                let before = named.len();
                with_table(row.table, ValuesOf { image: &row.image, named });
                if self.pardon.lenient {
                    self.places
                        .extend(named[before..].iter().map(|version| MissingValue::of(&row, *version)));
                }
            }
            _ => {}
        }
        Ok(row)
    }

    /// The fact of a record, if it is one.
    fn record(&mut self, bytes: &[u8]) -> Result<Option<Fact>> {
        let Some(record) = Record::decode(bytes) else { return Ok(None) };
        if record.channel == VALUES {
            let wanted = |named: &Vec<u64>| named.binary_search(&record.version).is_ok();
            if !values::is_value(&record) || !self.named.as_ref().is_none_or(wanted) {
                return Ok(None);
            }
            if self.pardon.lenient {
                self.told.push(record.version);
            }
            let (version, timestamp, bytes) =
                (record.version, record.timestamp, Bytes::copy_from_slice(record.payload));
            return Ok(Some(Fact::Value(ValueFact { version, timestamp, bytes })));
        }
        let head = self.view.head_of(record.channel);
        let counts = &self.view.moment.counts;
        let known = record.channel.0 < counts.channels && record.sender.0 < counts.users;
        if record.mark.seq <= head.trimmed.seq || self.pardon.lenient && !known {
            return Ok(None);
        }
        let payload = if self.is_withheld(&record, &head)? { &[] } else { record.payload };
        self.message(&Record { payload, ..record }).map(Fact::Message).map(Some)
    }

    fn is_withheld(&mut self, record: &Record<'_>, head: &Head) -> Result<bool> {
        let Record { channel, mark, .. } = *record;
        match self.view.erased_upto(record.sender) {
            Ok(erased) if record.version <= erased => return Ok(true),
            Ok(_) => {}
            Err(fault) => return self.pardon.note(fault).map(|()| true),
        }
        if mark.seq > head.retracted.max(head.erased) {
            return Ok(false);
        }
        let key = ChannelSeq { channel, seq: mark.seq };
        match self.view.row::<Alteration>(key) {
            Ok(Some(row)) if row.withheld() => Ok(true),
            // Where what became of messages can't be read, one that may have been erased is taken for it.
            Ok(_) => Ok(mark.seq <= head.erased && self.lost_row(key.raw())),
            Err(fault) => self.pardon.note(fault).map(|()| true),
        }
    }

    fn lost_row(&self, key: Key) -> bool {
        let covers = |lost: &LostRows| {
            lost.table.is_none_or(|table| table == Alteration::TABLE)
                && (lost.between.0..=lost.between.1).contains(&key)
        };
        self.lost.as_ref().is_some_and(|lost| lost.lock().iter().any(covers))
    }

    fn message(&mut self, record: &Record<'_>) -> Result<MessageFact> {
        let opaque = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice).unwrap_or_default();
        let (ChannelId(channel_id), UserId(sender_id)) = (record.channel, record.sender);
        Ok(MessageFact {
            channel: self.name(Named::Channel, channel_id)?,
            channel_id,
            sender: self.name(Named::User, sender_id)?,
            sender_id,
            mark: record.mark,
            version: record.version,
            timestamp: record.timestamp,
            silent: record.silent,
            quiet: record.quiet,
            id: record.id,
            client_id: opaque(record.client_id),
            unique_id: opaque(record.unique_id),
            fields: opaque(Some(record.fields)),
            payload: opaque(Some(record.payload)),
        })
    }
}

impl Iterator for Export<'_> {
    type Item = Result<Fact>;

    fn next(&mut self) -> Option<Result<Fact>> {
        let next = self.next_fact();
        if next.is_err() {
            self.stage = Stage::End;
        }
        next.transpose()
    }
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("view", self.view).finish_non_exhaustive()
    }
}

fn store_fact(view: &View) -> StoreFact {
    let (counts, files) = (view.moment.counts, &view.moment.files);
    let losses = files.losses.iter().filter(|loss| loss.version <= counts.version);
    StoreFact {
        version: counts.version,
        channels: counts.channels,
        users: counts.users,
        hash_key: files.key,
        losses: losses.map(|loss| (loss.version, loss.channels)).collect(),
    }
}

/// The heads of all channels.
struct HeadWalk<'v> {
    view: &'v View,
    next: u32,
}

impl RowWalk for HeadWalk<'_> {
    fn next(&mut self, _: &mut Pardon) -> Result<Option<RowFact>> {
        while self.next < self.view.moment.counts.channels {
            let channel = ChannelId(self.next);
            self.next += 1;
            let head = self.view.head_of(channel);
            if head != Head::default() {
                return Ok(Some(head_fact(channel, &head)));
            }
        }
        Ok(None)
    }
}

/// A head as a row.
pub(super) fn head_fact(channel: ChannelId, head: &Head) -> RowFact {
    let mut image = Vec::new();
    head.encode(&mut image);
    let (key, version) = ([channel.0.into(), 0, 0], head.changed);
    RowFact { table: HEADS, key, version, image: image.into(), ..RowFact::default() }
}

struct TableWalk<'v, T: Table> {
    scan: Scan<'v, T>,
    view: &'v View,
    lost: Option<LostNotes>,
}

impl<T: Table> TableWalk<'_, T> {
    /// Whether a row may be told. In a damaged store what it rests on may be gone.
    fn stands(&self, key: T::Key, row: &T) -> bool {
        let Some(lost) = &self.lost else { return true };
        let of_none = key.ids().0.is_some_and(|channel| channel.0 == MAX_IDS);
        let heads = ViewHeads { view: self.view };
        if of_none || heads.knows(key) && row.fits(key, &heads) {
            return true;
        }
        let log = &self.view.moment.active.log.path;
        let fault = Error::corrupt(log.parent().unwrap_or(log), 0, "a row rests on what is lost");
        lost.lock().push(LostRows { table: Some(T::TABLE), between: (key.raw(), key.raw()), fault });
        false
    }
}

/// What rows may rest on.
struct ViewHeads<'v> {
    view: &'v View,
}

impl State for ViewHeads<'_> {
    fn head(&self, channel: ChannelId) -> Head {
        self.view.head_of(channel)
    }

    fn set_head(&mut self, _: ChannelId, _: Head) {}

    fn put<T: Table>(&mut self, _: T::Key, _: T) {}

    fn knows(&self, key: impl TableKey) -> bool {
        self.view.moment.counts.know(key)
    }
}

impl<T: Table> RowWalk for TableWalk<'_, T> {
    fn next(&mut self, _: &mut Pardon) -> Result<Option<RowFact>> {
        let (key, row) = loop {
            match self.scan.next()? {
                Some((key, row)) if self.stands(key, &row) => break (key, row),
                Some(_) => {}
                None => return Ok(None),
            }
        };
        let mut image = Vec::new();
        row.encode(&mut image);
        let (key, version) = (key_fact(key.raw()), row.version());
        Ok(Some(RowFact { table: T::TABLE, key, version, image: image.into(), ..RowFact::default() }))
    }
}

struct OpenWalk<'v> {
    view: &'v View,
    lost: Option<LostNotes>,
}

impl<'v> WithTable for OpenWalk<'v> {
    type Out = Result<Box<dyn RowWalk + Send + 'v>>;

    fn table<T: Table>(self) -> Self::Out {
        let OpenWalk { view, lost } = self;
        Ok(Box::new(TableWalk { scan: Scan::<T>::whole(view, lost.clone())?, view, lost }))
    }
}

/// The rows of a table that this release does not know.
struct UnknownWalk<'v> {
    table: u8,
    runs: &'v [Arc<Run>],
    entries: Merge<'v>,
}

impl<'v> UnknownWalk<'v> {
    fn open(view: &'v View, table: u8) -> Result<Box<dyn RowWalk + Send + 'v>> {
        let runs = &view.moment.files.runs[..];
        Ok(Box::new(UnknownWalk { table, runs, entries: Merge::new(runs, table, &|_, _| false)? }))
    }
}

impl RowWalk for UnknownWalk<'_> {
    fn next(&mut self, pardon: &mut Pardon) -> Result<Option<RowFact>> {
        let next = self.entries.next().or_else(|fault| pardon.note(fault).map(|()| None))?;
        let Some((_, RunEntry { key, tag, version, image })) = next else { return Ok(None) };
        let section =
            |run: &Arc<Run>| (run.section(self.table).is_wide(), run.section(self.table).is_filtered());
        let sections = self.runs.iter().map(section);
        let (wide, filtered) = sections.fold((false, false), |all, one| (all.0 | one.0, all.1 | one.1));
        let (image, unknown) = (Bytes::copy_from_slice(image), Some(UnknownTable { wide, filtered, tag }));
        Ok(Some(RowFact {
            table: self.table,
            key: key_fact(key),
            version,
            image,
            unknown,
            ..RowFact::default()
        }))
    }
}

/// Notes the values that an image names.
struct ValuesOf<'i, 'n> {
    image: &'i [u8],
    named: &'n mut Vec<u64>,
}

impl WithTable for ValuesOf<'_, '_> {
    type Out = ();

    fn table<T: Table>(self) {
        let _ = T::values(self.image, &mut |version| self.named.push(version));
    }
}

/// The tag of a row; `None` if its table is not known and not told, or its image not valid.
pub(super) fn tag_of(row: &RowFact) -> Option<u8> {
    struct TagOf<'r>(&'r RowFact);
    impl WithTable for TagOf<'_> {
        type Out = Option<u8>;

        fn table<T: Table>(self) -> Option<u8> {
            T::decode(self.0.version, &self.0.image).map(|row| row.tag())
        }
    }
    match row.table {
        HEADS => Some(0),
        table => with_table(table, TagOf(row))
            .unwrap_or_else(|| Some(row.unknown?.tag).filter(|tag| *tag <= TOMBSTONE | 1)),
    }
}
