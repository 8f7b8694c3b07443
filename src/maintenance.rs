//! Sealing and merging: turning full log segments into sorted files, and those into fewer.
//!
//! Each step writes new files, then replaces the manifest, then the base, and only then removes the old files. A crash at
//! any line leaves orphans, which the next open removes. Readers keep what they use: a removed file lives on until its
//! last mapping goes.
//!
//! Invariants:
//! * M1. The manifest names only files that are durable, and the log segment of a sealed file is removed only after.
//! * M2. Only neighbours are merged, so that version ranges keep ascending.
//! * M3. A message is written at most three times: to the log, by sealing, and by one merge, whose output is left alone.
//! * M4. Steps of one kind exclude each other; sealing and merging may run at the same time, as sealing only adds to the
//!   end of the lists and merging replaces a range of what was there.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::Env;
use crate::error::{Error, Result};
use crate::log;
use crate::manifest::{Entry, Manifest, StoreError};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::record;
use crate::sealed::Kind;
use crate::segment::{self, BlockCache, Segment, SegmentBuilder};
use crate::state::{Base, Part, Published, Unsealed};
use crate::table::{self, Run, RunBuilder, Tombstones};
use crate::types::ChannelId;

/// So many neighbouring runs of about one size make a merge.
const RUNS: usize = 4;
/// Runs up to this size in bytes count as equally small.
const SMALL_RUN: u64 = 64 << 10;
/// So many segments that were never merged make a merge, however small they are.
const SEGMENTS: usize = 32;

/// Called with the bytes written since its last call; it may wait, and an error from it ends the step.
pub type Pace<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Does the work that keeps the number of files small.
pub struct Maintenance {
    env: Arc<dyn Env>,
    dir: PathBuf,
    options: Options,
    published: Arc<Published>,
    cache: Arc<BlockCache>,
    manifest: Mutex<Held>,
    /// Held while a segment is sealed, and while files are merged.
    sealing: Mutex<()>,
    merging: Mutex<()>,
}

/// The manifest, as it is on disk unless `stopped`.
struct Held {
    manifest: Manifest,
    /// Why it must not be replaced any more: the store is closed, or it is not known which manifest is on disk.
    stopped: Option<Error>,
}

impl Held {
    fn check(&self) -> Result<()> {
        self.stopped.clone().map_or(Ok(()), Err)
    }
}

/// Which of the two lists of sealed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    Segments,
    Runs,
}

impl Maintenance {
    /// Works on the store in `dir`.
    pub fn new(
        options: Options,
        dir: PathBuf,
        published: Arc<Published>,
        cache: Arc<BlockCache>,
        manifest: Manifest,
    ) -> Maintenance {
        Maintenance {
            env: options.env.clone(),
            dir,
            options,
            published,
            cache,
            manifest: Mutex::new(Held { manifest, stopped: None }),
            sealing: Mutex::new(()),
            merging: Mutex::new(()),
        }
    }

    /// The present manifest.
    pub fn manifest(&self) -> Manifest {
        self.manifest.lock().manifest.clone()
    }

    /// Waits for steps that are under way in callers' threads, and allows no more. Afterwards the directory may be
    /// another's.
    pub fn close(&self) {
        let _alone = (self.sealing.lock(), self.merging.lock());
        self.manifest.lock().stopped.get_or_insert(Error::Closed);
    }

    /// An error if no step may be done any more.
    fn check(&self) -> Result<()> {
        self.manifest.lock().check()
    }

    /// Seals the oldest frozen log segment, if there is one, and tells whether it did.
    pub fn seal(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let _alone = self.sealing.lock();
        self.check()?;
        let base = self.published.base();
        let Some(frozen) = base.frozen.first() else { return Ok(false) };
        let end = self.end_of(&base);
        log::scan(&frozen.log, &frozen.log.read_all()?, Some(end), &mut |_| Ok(()))?;
        let (segment, run) = self.write_sealed(frozen, pace)?;
        self.install_sealed(frozen, end, segment, run).inspect_err(|error| {
            self.discard_refused(error, Kind::Segment, segment);
            self.discard_refused(error, Kind::Run, run);
        })?;
        tracing::debug!(segment = frozen.log.id, "a log segment was sealed");
        // If it stays, the next open removes it.
        let _ = self.env.remove(&frozen.log.path);
        Ok(true)
    }

    /// Where the oldest frozen segment ends, which the next one's header says.
    fn end_of(&self, base: &Base) -> u64 {
        match base.frozen.get(1) {
            Some(next) => next.log.previous_end,
            None => {
                let state = self.published.0.read();
                state.base.frozen.get(1).map_or(state.active.log.previous_end, |next| next.log.previous_end)
            }
        }
    }

    /// Writes the files for a frozen segment; either may be absent if there is nothing for it.
    fn write_sealed(&self, frozen: &Unsealed, pace: &mut Pace<'_>) -> Result<(Option<Entry>, Option<Entry>)> {
        let table = &frozen.table;
        if table.is_empty() {
            return Ok((None, None));
        }
        let versions = (frozen.log.base_version + 1, table.version);
        let entry = |id, len| Entry { id, versions, len, level: 0 };
        let run = self.write(Kind::Run, |id| self.write_run(id, table, versions, pace))?;
        let run = entry(run.0, run.1);
        if table.messages.is_empty() {
            return Ok((None, Some(run)));
        }
        let segment = self.write(Kind::Segment, |id| self.write_segment(id, frozen, versions, pace));
        let segment = segment.inspect_err(|_| self.discard(Kind::Run, run.id))?;
        Ok((Some(entry(segment.0, segment.1)), Some(run)))
    }

    /// Takes an id and writes its file; removes the file if that fails. Returns id and length.
    fn write(&self, kind: Kind, write: impl FnOnce(u64) -> Result<u64>) -> Result<(u64, u64)> {
        let id = self.manifest.lock().manifest.take_file();
        let len = write(id).inspect_err(|_| self.discard(kind, id))?;
        Ok((id, len))
    }

    fn discard(&self, kind: Kind, id: u64) {
        let _ = self.env.remove(&kind.path(&self.dir, id));
    }

    /// Removes a file that the manifest was not to name after all, unless the manifest on disk may name it.
    fn discard_refused(&self, error: &Error, kind: Kind, entry: Option<Entry>) {
        if let Some(entry) = entry.filter(|_| !matches!(error, Error::Poisoned { .. })) {
            self.discard(kind, entry.id);
        }
    }

    fn write_segment(
        &self,
        id: u64,
        frozen: &Unsealed,
        versions: (u64, u64),
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let store = self.manifest.lock().manifest.store;
        let bytes = frozen.log.read_all()?;
        let mut channels: Vec<ChannelId> = frozen.table.messages.keys().copied().collect();
        channels.sort_unstable();
        let mut builder = SegmentBuilder::create(&*self.env, &self.dir, store, id, pace)?;
        for channel in channels {
            let chain = &frozen.table.messages[&channel];
            builder.channel(channel, chain.previous)?;
            for offset in chain.offsets() {
                let record = bytes.get(offset as usize..).and_then(record::len);
                let end = record.and_then(|len| (offset as usize).checked_add(len));
                let end = end.filter(|end| *end <= bytes.len());
                let end = end.ok_or_else(|| frozen.log.corrupt(offset, "no record"))?;
                builder.add(bytes.slice(offset as usize..end))?;
            }
        }
        builder.finish(versions)
    }

    fn write_run(&self, id: u64, table: &Memtable, versions: (u64, u64), pace: &mut Pace<'_>) -> Result<u64> {
        let (store, key) = {
            let held = self.manifest.lock();
            (held.manifest.store, held.manifest.key)
        };
        let mut builder = RunBuilder::create(&*self.env, &self.dir, store, id, key, pace)?;
        for (key, row) in table.rows.range(..) {
            builder.row(key.user, key.channel, row)?;
        }
        for ((channel, user), present) in &table.members {
            builder.member(*channel, *user, *present)?;
        }
        let mut heads: Vec<_> = table.heads.iter().collect();
        heads.sort_unstable_by_key(|(channel, _)| **channel);
        for (channel, head) in heads {
            builder.head(*channel, head)?;
        }
        builder.channels(table.channels.first(), table.channels.names())?;
        builder.users(table.users.first(), table.users.names())?;
        builder.finish(versions)
    }

    fn install_sealed(
        &self,
        frozen: &Unsealed,
        end: u64,
        segment: Option<Entry>,
        run: Option<Entry>,
    ) -> Result<()> {
        let part = segment.map(|entry| self.open_part(entry)).transpose()?;
        let opened = run.map(|entry| self.open_run(entry)).transpose()?;
        self.edit(
            |manifest| {
                manifest.first_log = frozen.log.id + 1;
                manifest.totals.logged += end;
                manifest.totals.user += frozen.table.user_bytes;
                manifest.totals.messages += frozen.table.count;
                for entry in segment.iter().chain(&run) {
                    manifest.totals.sealed += entry.len;
                }
                manifest.segments.extend(segment);
                manifest.runs.extend(run);
            },
            |base| {
                base.frozen.remove(0);
                base.segments.extend(part);
                base.runs.extend(opened);
            },
        )
    }

    fn open_part(&self, entry: Entry) -> Result<Part> {
        let store = self.manifest.lock().manifest.store;
        let cache = self.cache.clone();
        let segment = Segment::open(&*self.env, &self.dir, store, entry.id, entry.len, cache)?;
        Ok(Part { entry, segment: Ok(Arc::new(segment)) })
    }

    fn open_run(&self, entry: Entry) -> Result<Arc<Run>> {
        let (store, key) = {
            let held = self.manifest.lock();
            (held.manifest.store, held.manifest.key)
        };
        Run::open(&*self.env, &self.dir, store, entry.id, entry.len, key).map(Arc::new)
    }

    /// Makes an edit durable, then visible.
    fn edit(&self, edit: impl FnOnce(&mut Manifest), apply: impl FnOnce(&mut Base)) -> Result<()> {
        let mut held = self.manifest.lock();
        held.check()?;
        let mut next = held.manifest.clone();
        edit(&mut next);
        // A directory that failed to sync may have lost any name, also the writer's: then all stops.
        let names = self.env.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e));
        let stored = names.map_err(StoreError::Unknown).and_then(|()| next.store(&*self.env, &self.dir));
        match stored {
            Ok(()) => held.manifest = next,
            Err(StoreError::Unchanged(error)) => return Err(error),
            Err(StoreError::Unknown(error)) => {
                let lost = error.poison();
                held.stopped = Some(lost.clone());
                return Err(lost);
            }
        }
        let mut state = self.published.0.write();
        let mut base = (*state.base).clone();
        apply(&mut base);
        state.base = Arc::new(base);
        Ok(())
    }

    /// Does one merge, if one is due, and tells whether it did.
    pub fn merge(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let _alone = self.merging.lock();
        self.check()?;
        // In this order: the manifest may by now hold more than the base, at the end of its lists, but never less.
        let base = self.published.base();
        let manifest = self.manifest();
        if let Some(range) = due_runs(&manifest.runs[..base.runs.len()]) {
            self.merge_range(Merge::Runs, &manifest, &base, range, pace)?;
        } else if let Some(range) = due_segments(&base, self.options.message_segment) {
            self.merge_range(Merge::Segments, &manifest, &base, range, pace)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn merge_range(
        &self,
        merge: Merge,
        manifest: &Manifest,
        base: &Base,
        range: Range<usize>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let (kind, entries) = match merge {
            Merge::Segments => (Kind::Segment, &manifest.segments[range.clone()]),
            Merge::Runs => (Kind::Run, &manifest.runs[range.clone()]),
        };
        let (id, len) = self.write(kind, |id| match merge {
            Merge::Segments => self.merge_segments(id, manifest, base, range.clone(), pace),
            Merge::Runs => self.merge_runs(id, manifest, base, range.clone(), pace),
        })?;
        let level = entries.iter().map(|entry| entry.level).max().unwrap_or(0) + 1;
        let versions = (entries[0].versions.0, entries[entries.len() - 1].versions.1);
        let entry = Entry { id, versions, len, level };
        self.install_merged(merge, entry, range)
            .inspect_err(|error| self.discard_refused(error, kind, Some(entry)))?;
        tracing::debug!(?kind, files = entries.len(), bytes = len, "files were merged");
        for entry in entries {
            self.discard(kind, entry.id);
        }
        Ok(())
    }

    fn merge_segments(
        &self,
        id: u64,
        manifest: &Manifest,
        base: &Base,
        range: Range<usize>,
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let inputs: Vec<_> =
            base.segments[range].iter().map(|part| part.segment.clone()).collect::<Result<_>>()?;
        segment::merge(&*self.env, &self.dir, manifest.store, id, &inputs, pace)
    }

    fn merge_runs(
        &self,
        id: u64,
        manifest: &Manifest,
        base: &Base,
        range: Range<usize>,
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let age = i64::try_from(self.options.tombstone_age.as_millis()).unwrap_or(i64::MAX);
        // Without the oldest run a tombstone still hides an older row.
        let oldest =
            Tombstones { before_ms: self.env.unix_ms().saturating_sub(age), keep: self.options.tombstones };
        let tombstones = (range.start == 0).then_some(oldest);
        let (store, key) = (manifest.store, manifest.key);
        table::merge(&*self.env, &self.dir, store, id, key, &base.runs[range], tombstones, pace)
    }

    fn install_merged(&self, merge: Merge, entry: Entry, range: Range<usize>) -> Result<()> {
        match merge {
            Merge::Segments => {
                let part = self.open_part(entry)?;
                self.edit(
                    |manifest| {
                        manifest.totals.merged += entry.len;
                        manifest.segments.splice(range.clone(), [entry]);
                    },
                    |base| drop(base.segments.splice(range.clone(), [part])),
                )
            }
            Merge::Runs => {
                let run = self.open_run(entry)?;
                self.edit(
                    |manifest| {
                        manifest.totals.merged += entry.len;
                        manifest.runs.splice(range.clone(), [entry]);
                    },
                    |base| drop(base.runs.splice(range.clone(), [run])),
                )
            }
        }
    }
}

/// The segments to merge next: neighbours that were never merged, enough of them to reach `cap` together, or many.
fn due_segments(base: &Base, cap: u64) -> Option<Range<usize>> {
    // A damaged segment is left alone, and so is one that fills the cap by itself.
    let fresh = |part: &Part| part.segment.is_ok() && part.entry.level == 0 && part.entry.len < cap;
    let sizes: Vec<_> = base.segments.iter().map(|part| fresh(part).then_some(part.entry.len)).collect();
    due_neighbours(&sizes, cap)
}

fn due_neighbours(sizes: &[Option<u64>], cap: u64) -> Option<Range<usize>> {
    let (mut start, mut sum) = (0, 0);
    for (index, size) in sizes.iter().enumerate() {
        let Some(size) = size else {
            (start, sum) = (index + 1, 0);
            continue;
        };
        sum += size;
        if sum >= cap || index - start + 1 >= SEGMENTS {
            return Some(start..index + 1);
        }
    }
    None
}

/// The runs to merge next: the newest and its neighbours that are not of a larger tier. So a row is rewritten about once
/// for each factor of four by which the table grows, and there are at most three runs of each tier.
fn due_runs(entries: &[Entry]) -> Option<Range<usize>> {
    let tier = |entry: &Entry| (entry.len / SMALL_RUN).checked_ilog(RUNS as u64).map_or(0, |tier| tier + 1);
    let newest = entries.last().map(tier)?;
    let count = entries.iter().rev().take_while(|entry| tier(entry) <= newest).count();
    (count >= RUNS).then(|| entries.len() - count..entries.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(lens: &[u64], level: u32) -> Vec<Entry> {
        let entry = |(id, len): (usize, &u64)| Entry {
            id: id as u64,
            versions: (id as u64, id as u64),
            len: *len,
            level,
        };
        lens.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn segments_wait_until_they_fill_a_merge() {
        let due = |sizes: &[u64]| due_neighbours(&sizes.iter().copied().map(Some).collect::<Vec<_>>(), 200);
        assert_eq!(due(&[60, 60]), None);
        assert_eq!(due(&[60, 60, 60, 60, 60]), Some(0..4));
        assert_eq!(due(&[1; SEGMENTS]), Some(0..SEGMENTS));
        assert_eq!(due_neighbours(&[Some(150), None, Some(150), Some(60)], 200), Some(2..4));
        assert_eq!(due_neighbours(&[None; 9], 200), None);
    }

    #[test]
    fn runs_stay_few_and_are_seldom_rewritten() {
        let mut runs: Vec<u64> = Vec::new();
        let (mut written, mut most) = (0, 0);
        for _ in 0..4096 {
            runs.push(SMALL_RUN);
            while let Some(range) = due_runs(&entries(&runs, 0)) {
                let sum = runs[range.clone()].iter().sum();
                written += sum;
                runs.splice(range, [sum]);
            }
            most = most.max(runs.len());
        }
        assert!(most <= 24, "{most} runs at once");
        assert!(written <= 7 * 4096 * SMALL_RUN, "each row is written {} times", written / 4096 / SMALL_RUN);
    }
}
