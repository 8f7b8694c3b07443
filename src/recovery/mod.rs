//! Opening a store: from files to the published state.
//!
//! The first half only reads. Whatever is wrong is found there, so that a store which can't be opened is not changed by a
//! byte. The second half repairs what a crash leaves: it makes the end of the log durable, zeroes what lies behind it, notes
//! the new incarnation, and removes orphans.
//!
//! Invariants:
//! * R1. What is recovered is a prefix of the log, in whole commits, and everything below the durable mark is in it.
//! * R2. Before anything is served, all of it is durable: after a crash the page cache may hold bytes that no sync will
//!   write any more, so they are written again.
//! * R3. Behind the log's end there are zeros, so that no frame of a lost commit can follow a new one.

mod load;
mod replay;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::log::{self, FrameHeader, FrameKind, HEADER, LogFile, Scan, finish_frame, start_frame};
use crate::manifest::{self, Loss, Manifest, StoreError};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::segment::BlockCache;
use crate::stat::Recovery;
use crate::state::{Base, Named, Published, State, Unsealed};

use load::{load_heads, open_base, open_logs};
use replay::replay;
pub use survey::{Survey, check_unborn, lock, survey};
use survey::{check_ours, create_dir, orphans, sync_path};

/// An open store's parts.
pub struct Opened {
    pub manifest: Manifest,
    pub published: Arc<Published>,
    pub log: Arc<LogFile>,
    /// Where the next frame goes.
    pub end: u64,
    /// Whether the log ends with a close frame.
    pub clean: bool,
    pub recovery: Recovery,
    pub cache: Arc<BlockCache>,
    pub lock: Box<dyn Send + Sync>,
}

/// Opens the store in `dir`, or makes one.
pub fn open(options: &Options, dir: &Path) -> Result<Opened> {
    let env = &*options.env;
    let present = survey(env, dir)?;
    if present.is_none() {
        create_dir(env, dir)?;
    }
    check_ours(dir, &present.unwrap_or_default())?;
    let lock = lock(env, dir)?;
    // Again, as another process may have made the store until now.
    let survey = survey(env, dir)?.unwrap_or_default();
    check_ours(dir, &survey)?;
    match Manifest::load(env, dir)? {
        Some(manifest) if manifest.unborn() => {
            check_unborn(dir, &survey)?;
            begin(options, dir, manifest, lock)
        }
        Some(manifest) => Reading::read(options, dir, manifest, &survey)?.repair(options, dir, &survey, lock),
        None => create(options, dir, lock),
    }
}

/// Makes a store: its manifest, then its first log segment.
fn create(options: &Options, dir: &Path, lock: Box<dyn Send + Sync>) -> Result<Opened> {
    sync_path(&*options.env, dir)?;
    let manifest = Manifest::new(&*options.env).map_err(|e| Error::io("draw an id for", dir, e))?;
    save(&manifest, options, dir)?;
    begin(options, dir, manifest, lock)
}

/// Makes the first log segment of a store that has a manifest, and says so in the manifest: if that segment is missing
/// later, it was lost.
fn begin(
    options: &Options,
    dir: &Path,
    mut manifest: Manifest,
    lock: Box<dyn Send + Sync>,
) -> Result<Opened> {
    let env = &*options.env;
    let log = Arc::new(LogFile::create(env, dir, manifest.store, 1, (0, 0), options.log_segment)?);
    manifest.first_log = log.id;
    save(&manifest, options, dir)?;
    tracing::info!(dir = %dir.display(), "a store was made");
    let recovery = Recovery { created: true, clean: true, ..Recovery::default() };
    let published = Published::new(
        Heads::default(),
        log.clone(),
        (0, 0, 0),
        Base { key: manifest.key, ..Base::default() },
    );
    let cache = Arc::new(BlockCache::new(options.block_cache));
    Ok(Opened { manifest, published, log, end: HEADER, clean: false, recovery, cache, lock })
}

fn save(manifest: &Manifest, options: &Options, dir: &Path) -> Result<()> {
    manifest.store(&*options.env, dir).map_err(|error| match error {
        StoreError::Unchanged(error) | StoreError::Unknown(error) => error,
    })
}

impl Published {
    fn new(heads: Heads, log: Arc<LogFile>, counts: (u64, u32, u32), base: Base) -> Arc<Published> {
        let (version, channels, users) = counts;
        let active = Unsealed { log, table: Memtable::new(version, channels, users) };
        Arc::new(Published(RwLock::new(State { version, heads, active, base: Arc::new(base) })))
    }
}

/// The first half of opening: all is read, nothing is changed.
pub struct Reading {
    manifest: Manifest,
    published: Arc<Published>,
    /// The last log segment, and what was found in it.
    log: Arc<LogFile>,
    scan: Scan,
    recovery: Recovery,
    cache: Arc<BlockCache>,
}

impl Reading {
    /// Reads manifest, runs, segments and logs.
    pub fn read(options: &Options, dir: &Path, manifest: Manifest, survey: &Survey) -> Result<Reading> {
        let env = &*options.env;
        let cache = Arc::new(BlockCache::new(options.block_cache));
        let mut recovery = Recovery::default();
        let base = open_base(env, dir, &manifest, &cache)?;
        recovery.damaged = base.segments.iter().filter(|part| part.segment.is_err()).count() as u64;
        let logs = open_logs(env, dir, &manifest, survey)?;
        let (heads, counts) = load_heads(&base, &manifest)?;
        let (mut active, mut scan) = (logs[0].clone(), Scan::default());
        let published = Published::new(heads, active.clone(), counts, base);
        for (index, log) in logs.iter().enumerate() {
            if index > 0 {
                published.0.write().roll(log.clone());
            }
            active = log.clone();
            scan = replay(log, logs.get(index + 1).map(|next| next.previous_end), &published)?;
            recovery.log_segments += 1;
            recovery.log_bytes += scan.end;
            recovery.commits += scan.commits;
        }
        if scan.followed {
            return Err(Error::corrupt(&log::path(dir, active.id + 1), 0, "the log segment is missing"));
        }
        recovery.clean = scan.closed && scan.torn == 0;
        recovery.torn_bytes = scan.torn;
        // Behind a loss channels go on beyond a gap, which no segment may have in it.
        let unfinished = scan.buffered && !recovery.clean;
        let begun = if unfinished { published.0.read().version } else { active.base_version };
        if manifest.losses.iter().any(|loss| loss.version > begun) {
            let what = "no log segment begins behind a loss of power";
            return Err(Error::corrupt(&dir.join(manifest::NAME), 0, what));
        }
        Ok(Reading { manifest, published, log: active, scan, recovery, cache })
    }

    /// Bytes of an unfinished commit at the log's end.
    pub fn torn(&self) -> u64 {
        self.scan.torn
    }

    /// The second half: makes the store fit for writing.
    fn repair(
        mut self,
        options: &Options,
        dir: &Path,
        survey: &Survey,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Opened> {
        let (mut log, scan) = (self.log.clone(), self.scan);
        let (mut end, clean) = (scan.end, self.recovery.clean);
        mend(&log, &scan)?;
        if !clean {
            self.begin_incarnation(options, dir, &scan)?;
            if scan.buffered {
                // The mark of buffered commits is left behind with the segment: what it says is settled now.
                log = self.begin_segment(options, dir, &log, end)?;
                end = HEADER;
            } else if end == HEADER {
                // What made it may have ended before its name was durable.
                log = self.remake_segment(options, dir, &log)?;
            }
        }
        self.remove_orphans(options, dir, survey)?;
        tracing::info!(dir = %dir.display(), recovery = ?self.recovery, "a store was opened");
        let Reading { manifest, published, recovery, cache, .. } = self;
        Ok(Opened { manifest, published, log, end, clean, recovery, cache, lock })
    }

    /// Notes that tokens of versions behind this one are void, and whether buffered messages may be lost.
    fn begin_incarnation(&mut self, options: &Options, dir: &Path, scan: &Scan) -> Result<()> {
        let (version, channels) = {
            let state = self.published.0.read();
            (state.version, state.names(Named::Channel))
        };
        let boot = options.env.boot();
        let lost = scan.buffered && (boot.is_none() || boot != scan.boot);
        let loss = Loss { version, channels };
        self.manifest.forks.push(version);
        self.recovery.gap = lost;
        // A crash between noting a loss and going on behind it must not note it twice.
        if lost && self.manifest.losses.last() != Some(&loss) {
            self.manifest.losses.push(loss);
        }
        save(&self.manifest, options, dir)?;
        let mut state = self.published.0.write();
        let losses = self.manifest.losses.as_slice().into();
        state.base = Arc::new(Base { losses, ..(*state.base).clone() });
        Ok(())
    }

    /// Removes what the manifest does not name. The manifest may have come so far that it was seen, and not so far that it
    /// was durable; so it is made durable first, else a loss of power could bring back one that names what is removed.
    fn remove_orphans(&mut self, options: &Options, dir: &Path, survey: &Survey) -> Result<()> {
        let orphans = orphans(dir, &self.manifest, survey);
        if !orphans.is_empty() {
            save(&self.manifest, options, dir)?;
        }
        // A file that can't be removed now is tried again at the next open.
        self.recovery.orphans = orphans.iter().filter(|path| options.env.remove(path).is_ok()).count() as u64;
        Ok(())
    }

    /// Makes an empty segment anew, under the same name.
    fn remake_segment(&self, options: &Options, dir: &Path, log: &LogFile) -> Result<Arc<LogFile>> {
        let versions = (log.base_version, log.previous_end);
        let store = self.manifest.store;
        let log = LogFile::create(&*options.env, dir, store, log.id, versions, options.log_segment)?;
        let log = Arc::new(log);
        self.published.0.write().active.log = log.clone();
        Ok(log)
    }

    /// Begins a new segment. Behind a loss that is a must, because within a segment a channel's seqs are contiguous.
    fn begin_segment(&self, options: &Options, dir: &Path, log: &LogFile, end: u64) -> Result<Arc<LogFile>> {
        let versions = (self.published.0.read().version, end);
        let env = &*options.env;
        let next = LogFile::create(env, dir, self.manifest.store, log.id + 1, versions, options.log_segment)?;
        let next = Arc::new(next);
        let header = FrameHeader {
            kind: FrameKind::Next,
            buffered: false,
            count: 0,
            first_version: versions.0 + 1,
            durable: end,
        };
        let mut frame = Vec::new();
        let at = start_frame(&mut frame);
        finish_frame(&mut frame, at, &log.binding, end, &header);
        log.write(&frame, end)?;
        self.published.0.write().roll(next.clone());
        Ok(next)
    }
}

/// Makes all up to the log's end durable (R2) and all behind it zero (R3). After a clean close that is the close frame
/// alone: its own sync may have failed.
fn mend(log: &LogFile, scan: &Scan) -> Result<()> {
    // A copy, as a map would change under the write.
    let mut tail = log.read(scan.durable, (scan.end - scan.durable) as usize)?.to_vec();
    tail.resize(tail.len() + scan.torn as usize, 0);
    if tail.is_empty() {
        return Ok(());
    }
    log.write(&tail, scan.durable)?;
    log.sync()
}
