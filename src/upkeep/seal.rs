//! Sealing: turning the oldest frozen layer into a message segment and a table run.

use bytes::Bytes;

use super::files::{Pace, Upkeep};
use super::step::Done;
use crate::env::Dir;
use crate::env::sync::Arc;
use crate::error::Result;
use crate::files::log;
use crate::files::manifest::{FileEntry, Manifest, Session};
use crate::files::record;
use crate::files::sealed::Kind;
use crate::files::segment::{Chain, Link, SegmentBuilder};
use crate::files::table::{self, RunBuilder};
use crate::kernel::layer::Content;
use crate::kernel::rows::{AllRows, Rows};
use crate::kernel::{FileSet, Layer, Place};
use crate::model::head::{HEADS, Loss};
use crate::model::ids::{ChannelId, VALUES};
use crate::model::key::{Key, TableKey};
use crate::model::{EachTable, Table};

impl Upkeep {
    /// Seals the oldest frozen layer, if there is one, and tells whether it did.
    pub fn seal(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let _alone = self.sealing.lock();
        self.check()?;
        let since = self.now();
        let moment = self.kernel.moment();
        let Some(frozen) = moment.files.frozen.first() else { return Ok(false) };
        let next = moment.files.frozen.get(1).unwrap_or(&moment.active);
        let end = next.log.header.previous_end;
        log::scan(&frozen.log, &frozen.log.read_all()?, Some(end), &mut |_| Ok(()))?;
        let (segment, run) = self.write_sealed(&moment.files, frozen, pace)?;
        self.install_sealed(frozen, next, segment, run).inspect_err(|error| {
            self.discard_refused(error, Kind::Segment, segment);
            self.discard_refused(error, Kind::Run, run);
        })?;
        // If it stays, the next opening removes it.
        let _ = self.disk.remove(&log::name(frozen.log.header.segment));
        let messages = frozen.look(|content| content.chains.messages());
        let bytes = segment.iter().chain(&run).map(|entry| entry.len).sum();
        self.did(Done::Sealed { segment: frozen.log.header.segment, messages, bytes }, since);
        Ok(true)
    }

    /// Writes the files for a frozen layer; either may be absent if there is nothing for it.
    fn write_sealed(
        &self,
        files: &FileSet,
        frozen: &Arc<Layer>,
        pace: &mut Pace<'_>,
    ) -> Result<(Option<FileEntry>, Option<FileEntry>)> {
        // Nothing is put into a frozen layer, so that its lock delays nobody.
        frozen.look(|content| {
            if content.is_empty(&frozen.start) {
                return Ok((None, None));
            }
            let versions = (frozen.start.version + 1, content.version);
            let entry = |(id, len)| FileEntry { id, versions, len, level: 0 };
            let run = entry(self.write(Kind::Run, |id| self.write_run(id, content, versions, pace))?);
            if content.chains.messages() == 0 && content.values.is_empty() {
                return Ok((None, Some(run)));
            }
            let write = |id| self.write_segment(id, files, frozen, content, versions, pace);
            let segment = self.write(Kind::Segment, write);
            let segment = segment.inspect_err(|_| self.discard(Kind::Run, run.id))?;
            Ok((Some(entry(segment)), Some(run)))
        })
    }

    fn write_segment(
        &self,
        id: u64,
        files: &FileSet,
        frozen: &Layer,
        content: &Content,
        versions: (u64, u64),
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let bytes = frozen.log.read_all()?;
        let mut builder = SegmentBuilder::create(&*self.disk, self.kernel.store, id, pace)?;
        for (channel, touched) in content.chains.sorted() {
            let chain = &touched.chain;
            if chain.is_empty() {
                continue;
            }
            let last = self.kernel.newest_head(channel).last.seq == chain.last_seq();
            builder.channel(channel, links(files, channel, chain.previous), last)?;
            for offset in chain.offsets() {
                builder.add(record_at(frozen, &bytes, offset)?)?;
            }
        }
        // The last of all channels. Nothing leads from part to part: a value is found by its version.
        builder.channel(VALUES, Chain::default(), false)?;
        for (_, offset) in &content.values {
            builder.add(record_at(frozen, &bytes, u64::from(*offset))?)?;
        }
        builder.finish(versions)
    }

    fn write_run(
        &self,
        id: u64,
        content: &Content,
        versions: (u64, u64),
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let key = self.kernel.moment().files.key;
        let mut builder = RunBuilder::create(&*self.disk, self.kernel.store, id, key, pace)?;
        builder.section(HEADS, false)?;
        let mut image = Vec::new();
        for (channel, touched) in content.chains.sorted() {
            image.clear();
            touched.head.encode(&mut image);
            let (key, version) = (Key { a: channel.0, ..Key::default() }, touched.head.changed);
            builder.put(table::RunEntry { key, tag: 0, version, image: &image })?;
        }
        content.rows.each(&mut WriteRows { builder: &mut builder, image })?;
        builder.channels(content.channels.first(), content.channels.names())?;
        builder.users(content.users.first(), content.users.names())?;
        builder.finish(versions)
    }

    fn install_sealed(
        &self,
        frozen: &Layer,
        next: &Layer,
        segment: Option<FileEntry>,
        run: Option<FileEntry>,
    ) -> Result<()> {
        let part = segment.map(|entry| self.open_part(entry)).transpose()?;
        let opened = run.map(|entry| self.open_run(entry)).transpose()?;
        let losses = self.kernel.moment().files.losses.clone();
        let (user_bytes, messages) = frozen.look(|content| (content.user_bytes, content.chains.messages()));
        self.edit(
            |manifest| {
                manifest.first_log = frozen.log.header.segment + 1;
                manifest.totals.logged += next.log.header.previous_end;
                manifest.totals.user += user_bytes;
                manifest.totals.messages += messages;
                manifest.totals.sealed += segment.iter().chain(&run).map(|entry| entry.len).sum::<u64>();
                manifest.segments.extend(segment);
                manifest.runs.extend(run);
                note_session(manifest, frozen, next, &losses);
            },
            |files| {
                files.frozen.remove(0);
                files.segments.extend(part);
                files.runs.extend(opened);
            },
        )
    }
}

/// The encoded record at an offset of a layer's log.
fn record_at(frozen: &Layer, log: &Bytes, offset: u64) -> Result<Bytes> {
    let start = offset as usize;
    let len = log.get(start..).and_then(record::len);
    let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= log.len());
    let end = end.ok_or_else(|| frozen.log.corrupt(offset, "no record"))?;
    Ok(log.slice(start..end))
}

/// Remembers the end of a session whose last segment goes: from now on the log does not tell of it any more.
fn note_session(manifest: &mut Manifest, frozen: &Layer, next: &Layer, losses: &[Loss]) {
    let id = frozen.log.header.session;
    if next.log.header.session != id {
        manifest.sessions.push(Session { id, last: next.start.version });
        manifest.losses.extend(losses.iter().filter(|loss| loss.session == id));
    }
}

/// The links of a channel's part that follows a message (its version and seq) in older segments.
fn links(files: &FileSet, channel: ChannelId, previous: (u64, u64)) -> Chain {
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
    image: Vec<u8>,
}

impl EachTable<AllRows> for WriteRows<'_, '_> {
    fn table<T: Table>(&mut self, rows: &Rows<T>) -> Result<()> {
        if rows.len() == 0 {
            return Ok(());
        }
        self.builder.section(T::TABLE, T::Key::WIDE)?;
        if T::FILTERED {
            self.builder.filtered();
        }
        for (key, row) in rows.sorted() {
            self.image.clear();
            row.encode(&mut self.image);
            let (key, version) = (key.raw(), row.version());
            self.builder.put(table::RunEntry { key, tag: row.tag(), version, image: &self.image })?;
        }
        Ok(())
    }
}
