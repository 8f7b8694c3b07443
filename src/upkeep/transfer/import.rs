//! Makes a new store of facts.
//!
//! Nothing is replayed: names and rows are written as runs, messages as segments, as they come. Names come first, and have runs
//! of their own, in which the ids of what follows are looked up. All rows are one run. Messages are gathered, sorted and written
//! as a segment again and again, each with the links to the ones before, as if so many log segments were sealed.
//!
//! Invariant: what is written makes no store until the manifest comes, last; an import that ends before removes its files.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;

use super::export::tag_of;
use super::{Fact, MessageFact, RowFact, StoreFact, ValueFact};
use crate::env::Dir;
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::manifest::{FileEntry, Manifest};
use crate::files::record::Record;
use crate::files::sealed::Kind;
use crate::files::segment::{BlockCache, Chain, Segment, SegmentBuilder};
use crate::files::table::{Run, RunBuilder, RunEntry};
use crate::kernel::heads::Heads;
use crate::kernel::{Counts, FileSet, Part, values};
use crate::model::channel::MAX_BASE;
use crate::model::head::{BUFFERED_WINDOW, HEADS, Head, Loss, PackedHead};
use crate::model::ids::{ChannelId, MAX_CLIENT_ID, MAX_IDS, MAX_NAME, Named, UserId, VALUES};
use crate::model::image::MAX_VALUE;
use crate::model::key::{Key, TableKey};
use crate::model::state::State;
use crate::model::{Table, WithTable, with_table};
use crate::options::{MAX_PAYLOAD, Options};
use crate::upkeep::recovery::{check_ours, lock, survey};
use crate::upkeep::seal::links;

/// How many bytes of names are sorted at once, and of records at most.
const CHUNK: u64 = 32 << 20;
/// What a name or a record takes beside its bytes, about.
const ENTRY: u64 = 64;
/// No version comes near this.
const VERSIONS: u64 = 1 << 56;

/// What an import made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Imported {
    /// The version of the last change.
    pub version: u64,
    /// How many channels have or had names.
    pub channels: u32,
    /// How many users.
    pub users: u32,
    /// Rows, heads of channels among them.
    pub rows: u64,
    /// Messages.
    pub messages: u64,
}

/// Makes a store of the facts of another one ([`View::export`](crate::View::export)): with the same seqs, versions, gaps, floors and
/// times, and an identity of its own, so that tokens of the other one are void here. [`Import::finish`] makes it a store; if it
/// does not come to that, nothing is left in the directory, but after a crash of the process files that make no store.
///
/// Facts have to come in the order in which an export tells them. Costs a write of all; messages that come to less than 32 MiB
/// are a file, and files are merged when the store is open. Memory: about 64 MiB, and 100 bytes a channel.
pub struct Import {
    options: Options,
    disk: Disk,
    manifest: Manifest,
    store: Option<StoreFact>,
    /// How many names came.
    counts: Counts,
    names: [Vec<Bytes>; 2],
    rows: Option<RunBuilder<'static>>,
    table: Option<u8>,
    heads: Heads,
    /// What was written so far.
    files: FileSet,
    records: Vec<(ChannelId, u64, Bytes)>,
    /// Bytes of names or records that are held.
    held: u64,
    /// The last version of a record, and that of the last segment.
    last: (u64, u64),
    /// The version and seq of the last message of each channel in segments, and of what is held besides.
    previous: [HashMap<ChannelId, (u64, u64)>; 2],
    cache: Arc<BlockCache>,
    imported: Imported,
    /// Whether the last message of a channel may be missing.
    pub(super) open_ends: bool,
    done: bool,
    _lock: Box<dyn Send + Sync>,
}

impl Import {
    /// Begins an import into a directory, which is made if absent and must be empty. Of the options only the environment, the
    /// lock's timeout and the size of message segments count.
    ///
    /// # Errors
    /// [`Error::NotAStore`] and [`Error::InvalidArgument`] for a directory that holds anything, [`Error::Locked`] for one that is
    /// open elsewhere.
    pub fn new(dir: impl AsRef<Path>, options: Options) -> Result<Import> {
        let path = dir.as_ref();
        let dir = options.env.open_dir(path, true).map_err(|e| Error::io("create", path, e))?;
        let lock = lock(&*dir, options.lock_timeout)?;
        let found = survey(&*dir)?;
        check_ours(&*dir, &found)?;
        if found.manifest {
            return Err(Error::invalid(format!(
                "{} holds a store: an export needs an empty one",
                path.display()
            )));
        }
        let manifest = Manifest::new(&*options.env).map_err(|e| Error::io("draw an id for", path, e))?;
        Ok(Import {
            options,
            disk: Disk::new(dir),
            manifest,
            store: None,
            counts: Counts::default(),
            names: Default::default(),
            rows: None,
            table: None,
            heads: Heads::default(),
            files: FileSet::default(),
            records: Vec::new(),
            held: 0,
            last: (0, 0),
            previous: Default::default(),
            cache: Arc::new(BlockCache::new(0)),
            imported: Imported::default(),
            open_ends: false,
            done: false,
            _lock: lock,
        })
    }

    /// Takes the next fact.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one that comes out of order, that is not valid, or that does not follow from those
    /// before, and those of writing. After an error nothing more is to be given.
    pub fn put(&mut self, fact: Fact) -> Result<()> {
        match fact {
            Fact::Store(store) => self.begin(store),
            _ if self.store.is_none() => refuse("what is true of the whole store comes first"),
            Fact::Channel(name) => self.name(Named::Channel, name),
            Fact::User(name) => self.name(Named::User, name),
            Fact::Row(row) => self.row(&row),
            Fact::Message(message) => self.message(&message),
            Fact::Value(value) => self.value(&value),
        }
    }

    /// Makes what came the store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if something is missing, and those of writing.
    pub fn finish(mut self) -> Result<Imported> {
        self.end_rows()?;
        self.write_segment()?;
        self.check_ends()?;
        let Imported { messages, .. } = self.imported;
        self.manifest.totals.messages = messages;
        self.manifest.totals.sealed =
            self.manifest.segments.iter().chain(&self.manifest.runs).map(|entry| entry.len).sum();
        self.disk.sync().map_err(|e| Error::io("sync", self.disk.path(), e))?;
        // From here on the directory may hold a store.
        self.done = true;
        self.manifest.store(&self.disk)?;
        Ok(self.imported)
    }

    fn begin(&mut self, store: StoreFact) -> Result<()> {
        let StoreFact { version, channels, users, hash_key, ref losses } = store;
        if self.store.is_some() {
            return refuse("what is true of the whole store comes once");
        }
        if version >= VERSIONS || channels.max(users) >= MAX_IDS - 1 || u64::from(channels) > version {
            return refuse("no store has so many versions, channels or users");
        }
        let fits = losses.iter().all(|loss| loss.0 <= version && loss.1 <= channels);
        if !fits || !losses.is_sorted() {
            return refuse("the losses are out of order, or beyond the store");
        }
        let loss =
            |(version, channels): &(u64, u32)| Loss { version: *version, channels: *channels, session: 0 };
        self.manifest.losses = losses.iter().map(loss).collect();
        (self.manifest.key, self.files.key) = (hash_key, hash_key);
        self.imported = Imported { version, channels, users, ..Imported::default() };
        self.counts.version = version;
        self.store = Some(store);
        Ok(())
    }

    fn name(&mut self, named: Named, name: Bytes) -> Result<()> {
        let Imported { channels, users, .. } = self.imported;
        let (come, most) = match named {
            Named::Channel => (&mut self.counts.channels, channels),
            Named::User => (&mut self.counts.users, users),
        };
        if self.rows.is_some() || *come == most {
            return refuse(format!("a name of a {} more than there are", named.word()));
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return refuse(format!("a name has 1 to {MAX_NAME} bytes"));
        }
        *come += 1;
        self.held += name.len() as u64 + ENTRY;
        self.names[named as usize].push(name);
        if self.held > CHUNK { self.write_names() } else { Ok(()) }
    }

    /// Writes the names that are held as a run, which covers one version: names have none.
    fn write_names(&mut self) -> Result<()> {
        let [channels, users] = std::mem::take(&mut self.names);
        self.held = 0;
        if channels.is_empty() && users.is_empty() {
            return Ok(());
        }
        let first = (self.counts.channels - channels.len() as u32, self.counts.users - users.len() as u32);
        let (id, versions) = (self.manifest.take_file(), self.run_from());
        let entry = FileEntry { id, versions: (versions, versions), len: 0, level: 0 };
        self.manifest.runs.push(entry);
        let mut builder = self.run(id)?;
        builder.channels(first.0, channels)?;
        builder.users(first.1, users)?;
        let len = builder.finish(entry.versions)?;
        self.add_run(len)
    }

    /// The first version that the next run may cover.
    fn run_from(&self) -> u64 {
        self.manifest.runs.len() as u64
    }

    fn run(&self, id: u64) -> Result<RunBuilder<'static>> {
        RunBuilder::create(&self.disk, self.manifest.store, id, self.manifest.key, |_| Ok(()))
    }

    /// Opens the last run, which is written.
    fn add_run(&mut self, len: u64) -> Result<()> {
        let Some(entry) = self.manifest.runs.last_mut() else { return Ok(()) };
        entry.len = len;
        let run = Run::open(&self.disk, self.manifest.store, entry.id, len, self.manifest.key, 0)?;
        self.files.runs.push(Arc::new(run));
        Ok(())
    }

    /// Ends the names and begins the rows, unless that was done.
    fn begin_rows(&mut self) -> Result<()> {
        let Imported { version, channels, users, .. } = self.imported;
        if self.rows.is_some() || self.last.0 > 0 {
            return Ok(());
        }
        if (self.counts.channels, self.counts.users) != (channels, users) {
            let Counts { channels: some, users: others, .. } = self.counts;
            return refuse(format!(
                "{channels} channels and {users} users, but names of {some} and {others}"
            ));
        }
        self.write_names()?;
        if version < self.run_from() {
            return refuse("more names than changes");
        }
        let (id, versions) = (self.manifest.take_file(), (self.run_from(), version));
        self.manifest.runs.push(FileEntry { id, versions, len: 0, level: 0 });
        self.rows = Some(self.run(id)?);
        Ok(())
    }

    /// Ends the rows.
    fn end_rows(&mut self) -> Result<()> {
        if self.store.is_none() {
            return refuse("nothing came");
        }
        if self.imported.version == 0 || self.last.0 > 0 {
            return Ok(());
        }
        self.begin_rows()?;
        let Some(mut rows) = self.rows.take() else { return Ok(()) };
        // A run tells where its ids begin, also if there are none.
        rows.channels(self.counts.channels, [""; 0])?;
        rows.users(self.counts.users, [""; 0])?;
        let len = rows.finish(self.manifest.runs.last().map_or((0, 0), |entry| entry.versions))?;
        self.add_run(len)
    }

    fn row(&mut self, row: &RowFact) -> Result<()> {
        if self.last.0 > 0 || !self.records.is_empty() {
            return refuse("rows come before messages");
        }
        let key = row
            .raw_key()
            .ok_or_else(|| Error::invalid("a row's key is three numbers, the first below 2^32"))?;
        if row.version > self.imported.version {
            return refuse("a row's version is none of the store");
        }
        self.begin_rows()?;
        let tag =
            tag_of(row).ok_or_else(|| Error::invalid("a row of a table that is not known, or not valid"))?;
        match row.table {
            HEADS => self.head(key, row)?,
            table => {
                let check =
                    CheckRow { key, row, heads: &ImportedHeads { heads: &self.heads, counts: self.counts } };
                with_table(table, check).unwrap_or(Ok(()))?;
            }
        }
        let (channel, user) = row.ids();
        self.check_name(Named::Channel, channel.map(|channel| channel.0), row.channel.as_ref())?;
        self.check_name(Named::User, user.map(|user| user.0), row.user.as_ref())?;
        self.section(row)?;
        self.imported.rows += 1;
        let entry = RunEntry { key, tag, version: row.version, image: &row.image };
        self.rows.as_mut().map_or(Ok(()), |rows| rows.put(entry))
    }

    /// Begins the section of a row's table.
    fn section(&mut self, row: &RowFact) -> Result<()> {
        let Some(rows) = self.rows.as_mut().filter(|_| self.table != Some(row.table)) else { return Ok(()) };
        let told = row.unknown.unwrap_or_default();
        let (wide, filtered) = with_table(row.table, TableShape).unwrap_or((told.wide, told.filtered));
        rows.section(row.table, wide)?;
        if filtered {
            rows.filtered();
        }
        self.table = Some(row.table);
        Ok(())
    }

    fn head(&mut self, key: Key, row: &RowFact) -> Result<()> {
        let head =
            Head::decode(row.version, &row.image).ok_or_else(|| Error::invalid("a head is not valid"))?;
        let channel = ChannelId(key.a);
        let base = head.trimmed.seq.min(MAX_BASE);
        let most = base + head.changed + self.manifest.losses.len() as u64 * BUFFERED_WINDOW;
        let sane =
            head.trimmed.within(head.last) && head.loud_seq <= head.last.seq && head.deleted <= head.changed;
        if (key.b, key.c) != (0, 0) || channel.0 >= self.counts.channels || head.last.seq > most || !sane {
            return refuse("a head can't be");
        }
        if self.heads.get(channel) != Head::default() {
            return refuse("a channel has one head");
        }
        self.heads.set(channel, &PackedHead::from(&head));
        Ok(())
    }

    /// Checks that an id has the name that is given with it.
    fn check_name(&self, named: Named, id: Option<u32>, name: Option<&Bytes>) -> Result<()> {
        let (Some(id), Some(name)) = (id, name) else { return Ok(()) };
        if id >= self.counts.names(named) {
            return refuse(format!("there is no {} {id}", named.word()));
        }
        match self.files.sealed_name(named, id)? {
            known if known == *name => Ok(()),
            known => refuse(format!("{} {id} is called \"{}\"", named.word(), known.escape_ascii())),
        }
    }

    fn message(&mut self, message: &MessageFact) -> Result<()> {
        let MessageFact { channel_id, sender_id, mark, version, .. } = *message;
        let channel = ChannelId(channel_id);
        self.check_name(Named::Channel, Some(channel_id), Some(&message.channel))?;
        self.check_name(Named::User, Some(sender_id), Some(&message.sender))?;
        let lens = [message.client_id.len(), message.unique_id.len()];
        let too_long =
            lens.iter().any(|len| *len > MAX_CLIENT_ID) || message.payload.len() > MAX_PAYLOAD as usize;
        if too_long || message.fields.len() > MAX_PAYLOAD as usize {
            return refuse("a payload or an id is too long");
        }
        let head = self.heads.get(channel);
        if !mark.within(head.last) || mark.seq <= head.trimmed.seq || version > head.order {
            return refuse("the message is beyond the end of its channel, or trimmed");
        }
        if message.quiet > mark.seq || (message.quiet > 0 && !message.silent) {
            return refuse("no quiet message");
        }
        let some = |bytes: &Bytes| Some(bytes.clone()).filter(|bytes| !bytes.is_empty());
        let (client_id, unique_id) = (some(&message.client_id), some(&message.unique_id));
        let record = Record {
            channel,
            sender: UserId(sender_id),
            mark,
            version,
            timestamp: message.timestamp,
            silent: message.silent,
            id: message.id,
            client_id: client_id.as_deref(),
            unique_id: unique_id.as_deref(),
            quiet: message.quiet,
            fields: &message.fields,
            payload: &message.payload,
        };
        self.record(&record)?;
        self.imported.messages += 1;
        let ids = lens.iter().sum::<usize>() + message.id.map_or(0, |_| 8);
        self.manifest.totals.user += (message.payload.len() + ids) as u64;
        Ok(())
    }

    fn value(&mut self, value: &ValueFact) -> Result<()> {
        if value.bytes.is_empty() || value.bytes.len() > MAX_VALUE as usize {
            return refuse("a value is empty or too long");
        }
        self.record(&values::record(value.version, value.timestamp, &value.bytes))
    }

    /// Takes a record, and writes those that are held if there are enough.
    fn record(&mut self, record: &Record<'_>) -> Result<()> {
        if record.version <= self.last.0 || record.version > self.imported.version {
            return refuse("versions ascend, up to the store's");
        }
        self.end_rows()?;
        let (channel, seq) = (record.channel, record.mark.seq);
        let before = self.previous.iter().find_map(|previous| previous.get(&channel));
        if before.is_some_and(|before| before.1 >= seq) {
            return refuse("the seqs of a channel ascend");
        }
        let mut bytes = Vec::with_capacity(record.encoded_len());
        record.encode(&mut bytes);
        self.held += bytes.len() as u64 + ENTRY;
        self.records.push((channel, seq, bytes.into()));
        self.last.0 = record.version;
        if channel != VALUES {
            self.previous[0].insert(channel, (record.version, seq));
        }
        if self.held >= CHUNK.min(self.options.message_segment) { self.write_segment() } else { Ok(()) }
    }

    /// Writes the records that are held as a segment.
    fn write_segment(&mut self) -> Result<()> {
        self.held = 0;
        if self.records.is_empty() {
            return Ok(());
        }
        let mut records = std::mem::take(&mut self.records);
        records.sort_unstable_by_key(|(channel, seq, _)| (*channel, *seq));
        let versions = (self.last.1 + 1, self.last.0);
        let id = self.manifest.take_file();
        self.manifest.segments.push(FileEntry { id, versions, len: 0, level: 0 });
        let mut pace = |_| Ok(());
        let mut builder = SegmentBuilder::create(&self.disk, self.manifest.store, id, &mut pace)?;
        let mut open = None;
        for (channel, _, bytes) in records {
            if open.replace(channel) != Some(channel) {
                let before = self.previous[1].get(&channel).copied().unwrap_or_default();
                let chain =
                    if channel == VALUES { Chain::default() } else { links(&self.files, channel, before) };
                builder.channel(channel, chain, channel != VALUES)?;
            }
            builder.add(bytes)?;
        }
        let len = builder.finish(versions)?;
        let entry = FileEntry { id, versions, len, level: 0 };
        self.manifest.segments.pop();
        self.manifest.segments.push(entry);
        let segment = Segment::open(&self.disk, self.manifest.store, id, len, self.cache.clone())?;
        self.files.segments.push(Part { entry, segment: Ok(Arc::new(segment)) });
        let [fresh, written] = &mut self.previous;
        written.extend(fresh.drain());
        self.last.1 = self.last.0;
        Ok(())
    }

    /// Checks that the last message of each channel is the one that its head names.
    fn check_ends(&self) -> Result<()> {
        for channel in (0..self.counts.channels).map(ChannelId) {
            let head = self.heads.get(channel);
            let last = self.previous[1].get(&channel).copied();
            let due = !self.open_ends && head.order > 0 && head.last.seq > head.trimmed.seq;
            if due && last.is_none_or(|last| last.0 != head.order) {
                return refuse(format!("the last message of channel {} is missing", channel.0));
            }
        }
        Ok(())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.rows = None;
        let segments = self.manifest.segments.iter().map(|entry| Kind::Segment.name(entry.id));
        let runs = self.manifest.runs.iter().map(|entry| Kind::Run.name(entry.id));
        for name in segments.chain(runs) {
            let _ = self.disk.remove(&name);
        }
    }
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn refuse<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::invalid(what))
}

/// Whether keys of a table are wide, and whether it has a filter.
struct TableShape;

impl WithTable for TableShape {
    type Out = (bool, bool);

    fn table<T: Table>(self) -> (bool, bool) {
        (T::Key::WIDE, T::FILTERED)
    }
}

/// What rows may rest on.
struct ImportedHeads<'i> {
    heads: &'i Heads,
    counts: Counts,
}

impl State for ImportedHeads<'_> {
    fn head(&self, channel: ChannelId) -> Head {
        self.heads.get(channel)
    }

    fn set_head(&mut self, _: ChannelId, _: Head) {}

    fn put<T: Table>(&mut self, _: T::Key, _: T) {}

    fn knows(&self, key: impl TableKey) -> bool {
        self.counts.know(key)
    }
}

/// Checks a row of a table that is known.
struct CheckRow<'i> {
    key: Key,
    row: &'i RowFact,
    heads: &'i ImportedHeads<'i>,
}

impl WithTable for CheckRow<'_> {
    type Out = Result<()>;

    fn table<T: Table>(self) -> Result<()> {
        let key = T::Key::from_raw(self.key);
        let row = T::decode(self.row.version, &self.row.image);
        if key.raw() != self.key {
            return refuse("a row's key is none of its table");
        }
        // The row of a user that tells what was dropped is of no channel.
        let of_none = key.ids().0.is_some_and(|channel| channel.0 == MAX_IDS);
        match row {
            Some(row) if of_none || (self.heads.knows(key) && row.fits(key, self.heads)) => Ok(()),
            _ => refuse("a row does not fit its channel or user"),
        }
    }
}
