//! Reads and checks every byte of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::Access;
use crate::error::{Error, Result};
use crate::log::{self, LogFile};
use crate::manifest::{self, Entry, Manifest};
use crate::options::Options;
use crate::recovery::{self, Reading, Survey};
use crate::sealed::Kind;
use crate::segment::{BlockCache, Segment};
use crate::table::Run;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of an unfinished commit at the log's end. A crash leaves them, and they are no fault.
    pub torn_bytes: u64,
    /// What is wrong, each with file and offset.
    pub faults: Vec<Error>,
}

/// Reads and checks every byte of the store in `dir`, changing nothing. The store must not be open.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use chanlog::{Options, Store};
/// Store::open(dir.path())?.close()?;
/// assert!(chanlog::verify(dir.path(), &Options::new())?.faults.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Locked`] if the store is open, [`Error::NotAStore`] if there is none. What is wrong inside the store is no
/// error of this function but a fault in its answer.
pub fn verify(dir: impl AsRef<Path>, options: &Options) -> Result<Verification> {
    let dir = dir.as_ref();
    let env = &*options.env;
    let survey = || Ok(recovery::survey(env, dir)?.filter(|survey| survey.manifest));
    let absent = || Error::NotAStore { dir: dir.into(), entry: "no manifest".into() };
    survey()?.ok_or_else(absent)?;
    let _lock = recovery::lock(env, dir)?;
    // Again, as whoever had it open may have changed it until now.
    let survey = survey()?.ok_or_else(absent)?;
    let mut check = Check { options, dir, found: Verification::default() };
    match Manifest::load(env, dir) {
        Ok(Some(manifest)) => check.store(manifest, &survey),
        Ok(None) => return Err(absent()),
        Err(fault) => check.found.faults.push(fault),
    }
    Ok(check.found)
}

struct Check<'a> {
    options: &'a Options,
    dir: &'a Path,
    found: Verification,
}

impl Check<'_> {
    fn store(&mut self, manifest: Manifest, survey: &Survey) {
        self.count(self.dir.join(manifest::NAME));
        let cache = Arc::new(BlockCache::new(0));
        for entry in &manifest.runs {
            self.run(&manifest, entry);
        }
        for entry in &manifest.segments {
            self.segment(&manifest, entry, &cache);
        }
        if manifest.unborn() {
            self.found.faults.extend(recovery::check_unborn(self.dir, survey).err());
            return;
        }
        let live: Vec<u64> = survey.logs.range(manifest.first_log..).copied().collect();
        for (index, id) in live.iter().enumerate() {
            self.log(&manifest, *id, live.get(index + 1).copied());
        }
        // What every file says by itself is right; now whether they fit together.
        if self.found.faults.is_empty() {
            match Reading::read(self.options, self.dir, manifest, survey) {
                Ok(reading) => self.found.torn_bytes = reading.torn(),
                Err(fault) => self.found.faults.push(fault),
            }
        }
    }

    fn count(&mut self, path: PathBuf) {
        let len = self.options.env.open(&path, Access::Read).and_then(|file| file.len());
        self.found.files += 1;
        self.found.bytes += len.unwrap_or(0);
    }

    fn run(&mut self, manifest: &Manifest, entry: &Entry) {
        self.count(Kind::Run.path(self.dir, entry.id));
        let faults = &mut self.found.faults;
        let run = Run::open(&*self.options.env, self.dir, manifest.store, entry.id, entry.len, manifest.key);
        match run {
            Ok(run) => run.verify(&mut |fault| faults.push(fault)),
            Err(fault) => faults.push(fault),
        }
    }

    fn segment(&mut self, manifest: &Manifest, entry: &Entry, cache: &Arc<BlockCache>) {
        self.count(Kind::Segment.path(self.dir, entry.id));
        let faults = &mut self.found.faults;
        let env = &*self.options.env;
        match Segment::open(env, self.dir, manifest.store, entry.id, entry.len, cache.clone()) {
            Ok(segment) => segment.verify(&mut |fault| faults.push(fault)),
            Err(fault) => faults.push(fault),
        }
    }

    fn log(&mut self, manifest: &Manifest, id: u64, next: Option<u64>) {
        self.count(log::path(self.dir, id));
        let env = &*self.options.env;
        let open = |id| LogFile::open(env, self.dir, manifest.store, id, Access::Read);
        // Without the next one's header the end is unknown; its own fault is told when its turn comes.
        let end = next.and_then(|next| open(next).ok()).map(|next| next.previous_end);
        let checked = open(id).and_then(|log| log::check(&log, end));
        self.found.faults.extend(checked.err());
    }
}
