//! Sealing: turning the oldest full log segment, with all of its layers, into a message segment and a table run.

use bytes::Bytes;

use super::dead::Dead;
use super::files::{Pace, Upkeep};
use super::step::Done;
use crate::env::Dir;
use crate::env::sync::{Arc, RwLockReadGuard};
use crate::env::{fault, skip};
use crate::error::Result;
use crate::files::log::{self, LogFile};
use crate::files::manifest::{FileEntry, Manifest, Session};
use crate::files::record;
use crate::files::sealed::Kind;
use crate::files::segment::{Chain, Link, SegmentBuilder};
use crate::files::table::{self, RunBuilder};
use crate::kernel::chains::Touched;
use crate::kernel::layer::Content;
use crate::kernel::rows::{AllRows, Rows};
use crate::kernel::{FileSet, Layer, Place};
use crate::model::head::{HEADS, Loss};
use crate::model::ids::{ChannelId, Named, VALUES};
use crate::model::key::{Key, TableKey};
use crate::model::{EachTable, Table};

/// A full log segment: its layers, oldest first. Nothing is put into them any more, so that their locks delay nobody.
struct Full<'a> {
    log: &'a LogFile,
    layers: &'a [Arc<Layer>],
    contents: Vec<RwLockReadGuard<'a, Content>>,
}

/// What became of a channel in one layer.
type TouchedIn<'a> = (ChannelId, &'a Touched, &'a Content);

impl<'a> Full<'a> {
    fn new(layers: &'a [Arc<Layer>]) -> Full<'a> {
        Full { log: &layers[0].log, layers, contents: layers.iter().map(|layer| layer.content()).collect() }
    }

    /// The versions that it may hold, from the first to the last.
    fn versions(&self) -> (u64, u64) {
        let last = self.contents.last().map_or(0, |content| content.version);
        (self.layers[0].start.version + 1, last)
    }

    fn messages(&self) -> u64 {
        self.contents.iter().map(|content| content.chains.messages()).sum()
    }

    fn user_bytes(&self) -> u64 {
        self.contents.iter().map(|content| content.user_bytes).sum()
    }

    /// What became of channels, in their order, and of each from the oldest layer to the newest.
    fn touched(&self) -> Vec<TouchedIn<'_>> {
        let mut touched: Vec<TouchedIn<'_>> = Vec::new();
        for content in &self.contents {
            touched
                .extend(content.chains.sorted().into_iter().map(|(channel, of)| (channel, of, &**content)));
        }
        // Runs that are sorted already, so that a merge sort is quick.
        touched.sort_by_key(|(channel, ..)| *channel);
        touched
    }

    /// All names of a kind, and the first one's id.
    fn names(&self, named: Named) -> (u32, Vec<Bytes>) {
        let names = self.contents.iter().flat_map(|content| content.names(named).names());
        (self.layers[0].start.names(named), names.cloned().collect())
    }

    /// Where the values lie, in order of their versions.
    fn values(&self) -> impl Iterator<Item = u64> {
        let places = |content: &'_ Content| -> Vec<u64> {
            content.values.iter().map(|(_, place)| content.offset(u64::from(*place))).collect()
        };
        self.contents.iter().flat_map(move |content| places(content))
    }
}

impl Upkeep {
    /// Seals the oldest full log segment, if there is one, and tells whether it did.
    pub fn seal(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let _alone = self.sealing.lock();
        self.check()?;
        let since = self.now();
        let moment = self.kernel.moment();
        let Some(layers) = moment.full().next() else { return Ok(false) };
        let mut full = Full::new(layers);
        let next = moment.files.frozen.get(layers.len()).unwrap_or(&moment.active);
        let end = next.log.header.previous_end;
        log::scan(full.log, &full.log.read_all()?, Some(end), &mut |_| Ok(()))?;
        let (segment, run) = self.write_sealed(&moment.files, &full, pace)?;
        let _ = fault(30).then(|| self.disk.remove(&log::name(full.log.header.segment)));
        let totals = (full.user_bytes(), full.messages());
        // Whoever replaces files measures layers, and would take these locks once more.
        full.contents.clear();
        self.install_sealed(&full, totals, next, segment, run).inspect_err(|error| {
            self.discard_refused(error, Kind::Segment, segment);
            self.discard_refused(error, Kind::Run, run);
        })?;
        // If it stays, the next opening removes it.
        let _ = self.disk.remove(&log::name(full.log.header.segment));
        let (_, messages) = totals;
        let bytes = segment.iter().chain(&run).map(|entry| entry.len).sum();
        self.did(Done::Sealed { segment: full.log.header.segment, messages, bytes }, since);
        Ok(true)
    }

    /// Writes the files for a full segment; either may be absent if there is nothing for it.
    fn write_sealed(
        &self,
        files: &FileSet,
        full: &Full<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<(Option<FileEntry>, Option<FileEntry>)> {
        let versions = full.versions();
        if versions.1 < versions.0 {
            return Ok((None, None));
        }
        let entry = |(id, len)| FileEntry { id, versions, len, level: 0 };
        // A full segment is durable.
        let dead = Dead::of_users(&self.kernel, versions.1);
        let run = entry(self.write(Kind::Run, |id| self.write_run(id, full, &dead, pace))?);
        if full.messages() == 0 && full.contents.iter().all(|content| content.values.is_empty()) {
            return Ok((None, Some(run)));
        }
        let segment = self.write(Kind::Segment, |id| self.write_segment(id, files, full, pace));
        let segment = segment.inspect_err(|_| self.discard(Kind::Run, run.id))?;
        Ok((Some(entry(segment)), Some(run)))
    }

    fn write_segment(&self, id: u64, files: &FileSet, full: &Full<'_>, pace: &mut Pace<'_>) -> Result<u64> {
        let bytes = full.log.read_all()?;
        let mut builder = SegmentBuilder::create(&*self.disk, self.kernel.store, id, pace)?;
        let mut touched = full.touched();
        touched.retain(|(_, touched, _)| !touched.chain.is_empty());
        for parts in touched.chunk_by(|a, b| a.0 == b.0) {
            let (channel, first, last) = (parts[0].0, parts[0].1, parts[parts.len() - 1].1);
            let last = self.kernel.newest_head(channel).last.seq == last.chain.last_seq();
            builder.channel(channel, links(files, channel, first.chain.previous), last)?;
            for (_, touched, content) in parts {
                for place in touched.chain.offsets() {
                    builder.add(record_at(full.log, &bytes, content.offset(place))?)?;
                }
            }
        }
        // The last of all channels. Nothing leads from part to part: a value is found by its version.
        builder.channel(VALUES, Chain::default(), false)?;
        for offset in full.values() {
            builder.add(record_at(full.log, &bytes, offset)?)?;
        }
        builder.finish(full.versions())
    }

    fn write_run(&self, id: u64, full: &Full<'_>, dead: &Dead, pace: &mut Pace<'_>) -> Result<u64> {
        let key = self.kernel.moment().files.key;
        let mut builder = RunBuilder::create(&*self.disk, self.kernel.store, id, key, pace)?;
        builder.section(HEADS, false)?;
        let mut image = Vec::new();
        for parts in full.touched().chunk_by(|a, b| a.0 == b.0) {
            let (channel, newest, _) = parts[parts.len() - 1];
            image.clear();
            newest.head.head().encode(&mut image);
            let (key, version) = (Key { a: channel.0, ..Key::default() }, newest.head.plain.changed);
            builder.put(table::RunEntry { key, tag: 0, version, image: &image })?;
        }
        full.contents[0].rows.each(&mut WriteRows { builder: &mut builder, full, dead, image })?;
        let (first, names) = full.names(Named::Channel);
        builder.channels(first, &names)?;
        let (first, names) = full.names(Named::User);
        builder.users(first, &names)?;
        builder.finish(full.versions())
    }

    fn install_sealed(
        &self,
        full: &Full<'_>,
        (user_bytes, messages): (u64, u64),
        next: &Layer,
        segment: Option<FileEntry>,
        run: Option<FileEntry>,
    ) -> Result<()> {
        let part = segment.map(|entry| self.open_part(entry)).transpose()?;
        let opened = run.map(|entry| self.open_run(entry, &[])).transpose()?;
        let losses = self.kernel.moment().files.losses.clone();
        self.edit(
            |manifest| {
                manifest.first_log = full.log.header.segment + 1;
                manifest.totals.logged += next.log.header.previous_end;
                manifest.totals.user += user_bytes;
                manifest.totals.messages += messages;
                manifest.totals.sealed += segment.iter().chain(&run).map(|entry| entry.len).sum::<u64>();
                manifest.segments.extend(segment);
                manifest.runs.extend(run);
                note_session(manifest, full.log, next, &losses);
            },
            |files| {
                files.frozen.drain(..full.layers.len());
                files.segments.extend(part);
                files.runs.extend(opened);
            },
        )
    }
}

/// The encoded record at an offset of a log, of which all bytes are given.
fn record_at(log: &LogFile, bytes: &Bytes, offset: u64) -> Result<Bytes> {
    let start = offset as usize;
    let len = bytes.get(start..).and_then(record::len);
    let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= bytes.len());
    let end = end.ok_or_else(|| log.corrupt(offset, "no record"))?;
    Ok(bytes.slice(start..end))
}

/// Remembers the end of a session whose last segment goes: from now on the log does not tell of it any more.
fn note_session(manifest: &mut Manifest, log: &LogFile, next: &Layer, losses: &[Loss]) {
    let id = log.header.session;
    if next.log.header.session != id {
        manifest.sessions.push(Session { id, last: next.start.version + u64::from(fault(88)) });
        skip(63, || manifest.losses.extend(losses.iter().filter(|loss| loss.session == id)));
    }
}

/// The links of a channel's part that follows a message (its version and seq) in older segments.
pub(super) fn links(files: &FileSet, channel: ChannelId, previous: (u64, u64)) -> Chain {
    let prev = Link { version: previous.0, seq: previous.1 };
    if prev.is_none() {
        return Chain::default();
    }
    let chain = |link: Link| match files.locate(link.version)? {
        Place::Sealed(_, part) => {
            let extent = part.segment.as_ref().ok()?.extent(channel).ok()??;
            Some(extent.chain)
        }
        Place::Frozen(_) => None,
    };
    // Where that can't be read, the jump is short, and still right.
    let parent = chain(prev).unwrap_or_default();
    let far = if parent.jump.is_none() { None } else { chain(parent.jump) };
    Chain::after(prev, &parent, far.as_ref())
}

struct WriteRows<'b, 'p> {
    builder: &'b mut RunBuilder<'p>,
    full: &'b Full<'b>,
    /// What is left out.
    dead: &'b Dead,
    image: Vec<u8>,
}

impl EachTable<AllRows> for WriteRows<'_, '_> {
    fn table<T: Table>(&mut self, _: &Rows<T>) -> Result<()> {
        let layers: Vec<&Rows<T>> = self.full.contents.iter().map(|content| T::of(&content.rows)).collect();
        if layers.iter().all(|rows| rows.len() == 0) {
            return Ok(());
        }
        self.builder.section(T::TABLE, T::Key::WIDE)?;
        if T::FILTERED {
            self.builder.filtered();
        }
        let mut rows: Vec<(T::Key, &T)> = layers.into_iter().flat_map(Rows::sorted).collect();
        // Runs that are sorted already, and of one key the newest comes last.
        rows.sort_by_key(|(key, _)| *key);
        for same in rows.chunk_by(|a, b| a.0 == b.0) {
            let (key, row) = same[if fault(111) { 0 } else { same.len() - 1 }];
            self.image.clear();
            row.encode(&mut self.image);
            let (key, version) = (key.raw(), row.version());
            let entry = table::RunEntry { key, tag: row.tag(), version, image: &self.image };
            if !self.dead.has(T::TABLE, &entry) {
                self.builder.put(entry)?;
            }
        }
        Ok(())
    }
}
