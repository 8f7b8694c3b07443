//! The set of files of a store and its manifest: what changes them, and in which order.
//!
//! Each step writes new files, then replaces the manifest, then the kernel's set of files, and only then removes old files.
//! A crash at any line leaves orphans, which the next opening removes. Readers keep what they use: a removed file lives on
//! until its last mapping goes.
//!
//! Invariants:
//! * M1. The manifest names only files that are durable, and what they replace is removed only after.
//! * M4. Steps of one kind exclude each other. Sealing only adds to the end of the lists, and a merge replaces a range of
//!   what was there; so sealing, merges of segments and merges of runs may run at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::overdue::ErasureClock;
use super::report::CacheUse;
use super::step::Done;
use super::turns::Scrubs;
use crate::env::Dir;
use crate::env::sync::{Arc, Mutex};
use crate::env::{fault, unless};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::manifest::{FileEntry, Manifest};
use crate::files::sealed::Kind;
use crate::files::segment::{BlockCache, Segment};
use crate::files::table::Run;
use crate::kernel::fileset::filters;
use crate::kernel::{FileSet, Kernel, Part};
use crate::model::ids::ChannelId;
use crate::options::Options;

/// Called with the bytes written since its last call; it may wait, and an error from it ends the step.
pub type Pace<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Does the work that keeps the number of files small.
pub struct Upkeep {
    pub(super) disk: Arc<Disk>,
    pub(super) options: Options,
    pub(super) kernel: Arc<Kernel>,
    pub(super) cache: Arc<BlockCache>,
    held: Mutex<Held>,
    /// Held while a layer is sealed, while segments are merged, and while runs are merged.
    pub(super) sealing: Mutex<()>,
    pub(super) merging_segments: Mutex<()>,
    pub(super) merging_runs: Mutex<()>,
    /// Sealed files that turned out to be damaged: merges leave them alone.
    damaged: Mutex<BTreeSet<u64>>,
    /// A message of each segment that was not trimmed when that was looked at last.
    pub(super) counting: Mutex<BTreeMap<u64, (ChannelId, u64)>>,
    /// What users sent and that was erased up to this version is in no segment any more.
    pub(super) erased: Mutex<u64>,
    /// When sealed files were read again.
    pub scrubs: Scrubs,
    /// What was erased and may still be in files.
    pub erasures: ErasureClock,
    /// Steps that are done and not yet told.
    done: Mutex<Vec<(Done, Duration)>>,
}

struct Held {
    manifest: Manifest,
    closed: bool,
}

impl Upkeep {
    /// Works on an open store.
    pub fn new(
        disk: Arc<Disk>,
        options: Options,
        kernel: Arc<Kernel>,
        cache: Arc<BlockCache>,
        manifest: Manifest,
    ) -> Upkeep {
        let scrubs = Scrubs::new(&manifest, options.env.unix_ms(), options.scrub_interval);
        let now = options.env.unix_ms();
        Upkeep {
            scrubs,
            erasures: ErasureClock::new(disk.clone(), &kernel, now, options.erase_within),
            disk,
            options,
            kernel,
            cache,
            held: Mutex::new(Held { manifest, closed: false }),
            sealing: Mutex::new(()),
            merging_segments: Mutex::new(()),
            merging_runs: Mutex::new(()),
            damaged: Mutex::default(),
            counting: Mutex::default(),
            erased: Mutex::default(),
            done: Mutex::default(),
        }
    }

    /// How the block cache is used.
    pub fn cache_use(&self) -> CacheUse {
        let (hits, misses) = (self.cache.hits(), self.cache.misses());
        CacheUse { hits, misses, bytes: self.cache.weight(), capacity: self.cache.capacity() }
    }

    /// The present manifest.
    pub fn manifest(&self) -> Manifest {
        self.held.lock().manifest.clone()
    }

    /// Waits for steps that are under way in callers' threads, and allows no more. Afterwards the directory may be
    /// another's.
    pub fn close(&self) {
        let _alone = (self.sealing.lock(), self.merging_segments.lock(), self.merging_runs.lock());
        self.held.lock().closed = true;
    }

    /// An error if no step may be done any more.
    pub(super) fn check(&self) -> Result<()> {
        unless(12, || self.disk.health().check())?;
        if self.held.lock().closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Takes an id and writes its file; removes the file if that fails. Returns id and length.
    pub(super) fn write(&self, kind: Kind, write: impl FnOnce(u64) -> Result<u64>) -> Result<(u64, u64)> {
        let id = self.held.lock().manifest.take_file();
        let len = write(id).inspect_err(|_| self.discard(kind, id))?;
        Ok((id, len))
    }

    /// Removes a file. If it stays, the next opening removes it.
    pub(super) fn discard(&self, kind: Kind, id: u64) {
        let _ = self.disk.remove(&kind.name(id));
    }

    /// Removes a file that the manifest was not to name after all, unless the manifest on disk may name it.
    pub(super) fn discard_refused(&self, error: &Error, kind: Kind, entry: Option<FileEntry>) {
        if let Some(entry) = entry.filter(|_| !matches!(error, Error::Poisoned { .. })) {
            self.discard(kind, entry.id);
        }
    }

    /// Makes an edit durable, then visible.
    pub(super) fn edit(
        &self,
        edit: impl FnOnce(&mut Manifest),
        apply: impl FnOnce(&mut FileSet),
    ) -> Result<()> {
        let mut held = self.held.lock();
        if held.closed {
            return Err(Error::Closed);
        }
        let mut next = held.manifest.clone();
        edit(&mut next);
        // The names of the new files, before the manifest names them.
        unless(29, || self.disk.sync().map_err(|e| Error::io("sync", self.disk.path(), e)))?;
        next.store(&self.disk)?;
        held.manifest = next;
        self.kernel.edit_files(apply);
        Ok(())
    }

    /// Makes the manifest durable as it is.
    pub fn confirm(&self) -> Result<()> {
        self.held.lock().manifest.store(&self.disk)
    }

    pub(super) fn open_part(&self, entry: FileEntry) -> Result<Part> {
        let store = self.kernel.store;
        let segment = Segment::open(&*self.disk, store, entry.id, entry.len, self.cache.clone())?;
        Ok(Part { entry, segment: Ok(Arc::new(segment)) })
    }

    /// Opens a run, in place of others that go with it. Filters beyond their share of memory stay in the file.
    pub(super) fn open_run(&self, entry: FileEntry, gone: &[Arc<Run>]) -> Result<Arc<Run>> {
        let files = self.kernel.moment().files.clone();
        let left = self.options.filters().saturating_sub(filters(&files.runs).saturating_sub(filters(gone)));
        Run::open(&*self.disk, self.kernel.store, entry.id, entry.len, files.key, left).map(Arc::new)
    }

    /// Shares the memory anew: the block cache gives way to filters, and to so many bytes of feeds.
    pub fn share_memory(&self, feeds: u64) {
        let capacity = self.options.blocks(filters(&self.kernel.moment().files.runs).saturating_add(feeds));
        // A little more or less is not worth it.
        if capacity.abs_diff(self.cache.capacity()) > capacity / 16 {
            self.cache.set_capacity(capacity);
        }
    }

    /// The time of the monotonic clock.
    pub(super) fn now(&self) -> Duration {
        self.options.env.monotonic()
    }

    /// Notes a step that began at that time.
    pub(super) fn did(&self, step: Done, since: Duration) {
        let took = self.now().saturating_sub(since);
        step.measured().inspect(|what| self.kernel.measures.record(*what, took));
        self.done.lock().push((step, took));
    }

    /// The steps that were done since this was asked last, and how long each took: to be told when no lock is held.
    pub fn take_done(&self) -> Vec<(Done, Duration)> {
        std::mem::take(&mut *self.done.lock())
    }

    /// Remembers which of a step's inputs made it fail, if one did by damage, so that it is not tried again for ever. Tells
    /// whether one did.
    pub(super) fn note_damage(&self, error: &Error, kind: Kind, entries: &[FileEntry]) -> bool {
        let Error::Corruption { file, .. } = error else { return false };
        let name = file.file_name().unwrap_or_default();
        let bad = entries.iter().find(|entry| *name == *kind.name(entry.id));
        self.damaged.lock().extend(bad.map(|entry| entry.id).filter(|_| !fault(50)));
        bad.is_some()
    }

    /// Whether merges leave a file alone.
    pub(super) fn is_damaged(&self, entry: &FileEntry) -> bool {
        self.damaged.lock().contains(&entry.id)
    }
}
