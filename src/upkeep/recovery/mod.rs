//! Opening a store: from files to the published state.
//!
//! The first half only reads. Whatever is wrong is found there, so that a store which can't be opened is not changed by a
//! byte. The second half mends what a crash leaves: it makes durable the end of the log, and the name of a segment that has
//! no frame yet, zeroes what lies after the end, and removes orphans. Nothing else is written by opening: the session's
//! first commit begins a log segment of its own, whose header says all that a later opening has to know.
//!
//! Invariants:
//! * R1. What is recovered is a prefix of the log, in whole commits, and everything below the durable mark is in it.
//! * R2. Before anything is served to a writer, all of it is durable: after a crash the page cache may hold bytes that no
//!   sync will write any more, so they are written again.
//! * R3. After the log's end there are zeros, so that no frame of a lost commit can follow a new one.
//! * R4. No file is removed while one that the manifest names is missing or damaged: it may be all that is left.

mod load;
mod replay;
mod salvage;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use crate::env::sync::Arc;
use crate::env::{Dir, Env};
use crate::env::{fault, unless};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::log::{self, HEADER, Header, LogFile, LogScan};
use crate::files::manifest::{FileEntry, Manifest, Session};
use crate::files::note::Note;
use crate::files::sealed::PAGE;
use crate::files::segment::BlockCache;
use crate::kernel::{Counts, Kernel, Layer};
use crate::model::batch::Durability;
use crate::model::head::Loss;
use crate::options::Options;
use crate::upkeep::report::Recovery;
use crate::write::Start;

pub use load::{latest_time, open_run, open_segment};
use load::{load_fates, load_heads, open_files, open_logs};
use replay::replay;
use salvage::salvage;
use survey::open_dir;
pub use survey::{Survey, check_ours, check_unborn, lock, orphans, survey};

/// An open store's parts.
pub struct Opened {
    pub disk: Arc<Disk>,
    pub manifest: Manifest,
    pub kernel: Arc<Kernel>,
    /// Where writing goes on.
    pub start: Start,
    pub recovery: Recovery,
    pub cache: Arc<BlockCache>,
    /// Keeps other writers out; absent for a reader.
    pub lock: Option<Box<dyn Send + Sync>>,
    /// What holds for this store.
    pub options: Options,
}

/// What an opening works with.
pub struct Opening<'a> {
    pub options: &'a Options,
    pub disk: &'a Disk,
    pub cache: Arc<BlockCache>,
    /// Whether the end of the log may be mended.
    pub writable: bool,
}

/// What was found to be damaged.
#[derive(Default)]
pub struct Damage {
    /// Whether to go on without what is damaged.
    lenient: bool,
    /// Whether to go on behind it too, wherever something whole may come.
    salvage: bool,
    pub found: Vec<Error>,
    /// The first and the last version of commits that are lost, the last one if it is known.
    pub commits: Vec<(u64, Option<u64>)>,
    /// Whether commits after all that was read may be lost.
    pub open_end: bool,
    /// What the manifest says of runs that can't be opened.
    pub runs: Vec<FileEntry>,
}

impl Damage {
    /// Notes a fault that stops nothing.
    pub fn note(&mut self, fault: &Error) {
        self.found.push(fault.clone());
    }

    /// Turns damage into `None`, if what is whole is to be served without it.
    pub fn forgive<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(good) => Ok(Some(good)),
            Err(fault @ Error::Corruption { .. }) if self.lenient => {
                self.found.push(fault);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Opens the store at `path`, or makes one.
pub fn open(options: &Options, path: &Path) -> Result<Opened> {
    if options.read_only {
        return open_for_reading(options, path);
    }
    let disk = Arc::new(Disk::new(open_dir(&*options.env, path)?));
    let lock = lock(&*disk, options.lock_timeout)?;
    let survey = survey(&*disk)?;
    check_ours(&*disk, &survey)?;
    let cache = Arc::new(BlockCache::new(options.blocks(0)));
    let found = Manifest::load(&*disk)?;
    let fresh = found.is_none();
    let manifest = found.map_or_else(|| options.new_manifest(), Ok);
    let manifest = manifest.map_err(|e| Error::io("draw an id for", disk.path(), e))?;
    let options = options.of_store(&manifest)?;
    let opening = Opening { options: &options, disk: &disk, cache: cache.clone(), writable: true };
    let opened = if fresh {
        manifest.store(&disk)?;
        begin(&opening, manifest)?
    } else if manifest.unborn() {
        check_unborn(&*disk, &survey)?;
        begin(&opening, manifest)?
    } else {
        Reading::read(&opening, manifest, &survey, None)?.mend(&opening, &survey)?
    };
    let (manifest, kernel, start, recovery) = opened;
    Ok(Opened { manifest, kernel, start, recovery, cache, disk, lock: Some(lock), options })
}

/// So often a reader starts again when a writer replaced files meanwhile.
const TRIES: usize = 10;

/// Opens a store without a lock and without a change.
fn open_for_reading(options: &Options, path: &Path) -> Result<Opened> {
    let dir = options.env.open_dir(path, false).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => no_store(path),
        _ => Error::io("open", path, e),
    })?;
    let disk = Arc::new(Disk::new(dir));
    let cache = Arc::new(BlockCache::new(options.blocks(0)));
    let mut tries = 0;
    loop {
        // In this order: the log holds at least what the note says.
        let note = published(&disk);
        let Some(manifest) = Manifest::load(&*disk)? else { return Err(no_store(path)) };
        let options = options.of_store(&manifest)?;
        let opening = Opening { options: &options, disk: &disk, cache: cache.clone(), writable: false };
        let reading = Reading::read(&opening, manifest.clone(), &survey(&*disk)?, note);
        tries += 1;
        // A writer may have replaced files between the two.
        let moved = Manifest::load(&*disk)?.is_some_and(|now| now != manifest);
        if moved && tries < TRIES {
            continue;
        }
        let (manifest, kernel, start, recovery) = reading?.parts()?;
        return Ok(Opened { manifest, kernel, start, recovery, cache, disk, lock: None, options });
    }
}

/// What is whole of a damaged store.
pub struct Salvage {
    pub kernel: Arc<Kernel>,
    pub damage: Damage,
}

/// Reads what is whole of the store at `path`, without a change.
///
/// Its manifest must be whole: it alone has the key of the hashes that are in rows, and says which files there were.
pub fn open_damaged(options: &Options, path: &Path) -> Result<Salvage> {
    let options = options.clone().read_only(true);
    let dir = options.env.open_dir(path, false).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => no_store(path),
        _ => Error::io("open", path, e),
    })?;
    let disk = Arc::new(Disk::new(dir));
    // Not while somebody writes it.
    let _lock = lock(&*disk, options.lock_timeout)?;
    let cache = Arc::new(BlockCache::new(options.blocks(0)));
    let opening = Opening { options: &options, disk: &disk, cache, writable: false };
    let Some(manifest) = Manifest::load(&*disk)? else { return Err(no_store(path)) };
    let reading = Reading::read_with(&opening, manifest, &survey(&*disk)?, None, true)?;
    Ok(Salvage { kernel: Arc::new(reading.kernel), damage: reading.faults })
}

/// How far a writer has published. Where nobody holds the lock, all of the log counts.
fn published(disk: &Disk) -> Option<Note> {
    match lock(disk, Duration::ZERO) {
        Err(Error::Locked { .. }) => Note::read(disk),
        _ => None,
    }
}

fn no_store(path: &Path) -> Error {
    Error::NotAStore { dir: path.into(), entry: None }
}

type Parts = (Manifest, Arc<Kernel>, Start, Recovery);

/// Makes the first log segment of a store that has a manifest, a new one or a backup, and says so in the manifest: if that
/// segment is missing later, it was lost.
fn begin(opening: &Opening<'_>, mut manifest: Manifest) -> Result<Parts> {
    let Opening { options, disk, .. } = opening;
    let (salt, session) = (draw(&*options.env, disk)?, draw(&*options.env, disk)?);
    let mut faults = Damage::default();
    let files = open_files(opening, &manifest, &mut faults)?;
    let (heads, counts) = load_heads(&files, &manifest, &mut faults)?;
    let fates = load_fates(&files, &counts, &mut faults)?;
    let buffered = options.durability == Durability::Buffered;
    let header = Header {
        segment: 1,
        salt,
        session,
        buffered,
        base_version: counts.version,
        channels: counts.channels,
        users: counts.users,
        previous_end: 0,
        capacity: options.log_segment.next_multiple_of(4096),
    };
    let log = Arc::new(LogFile::create(disk, manifest.store, header)?);
    manifest.first_log = 1;
    manifest.store(disk)?;
    let identity = (Options::clone(options), manifest.store);
    let layer = Arc::new(Layer::new(log.clone(), counts));
    let kernel = Kernel::new(identity, manifest.sessions.clone(), (heads, fates), files, layer, counts);
    let created = counts == Counts::default();
    let (losses, damaged) = (manifest.losses.len() as u64, faults.found.len() as u64);
    let recovery = Recovery { created, clean: true, losses, damaged, ..Recovery::default() };
    Ok((manifest, Arc::new(kernel), Start { log, end: HEADER, begun: true, session }, recovery))
}

fn draw(env: &dyn Env, disk: &Disk) -> Result<u64> {
    let mut random = [0; 8];
    env.random(&mut random).map_err(|e| Error::io("draw a number for", disk.path(), e))?;
    Ok(u64::from_le_bytes(random))
}

/// The first half of opening: all is read, nothing is changed.
pub struct Reading {
    manifest: Manifest,
    kernel: Kernel,
    /// The last log segment, and what was found in it.
    log: Arc<LogFile>,
    scan: LogScan,
    recovery: Recovery,
    faults: Damage,
    session: u64,
    /// How far a writer beside this reader has published.
    note: Option<Note>,
}

impl Reading {
    /// Reads manifest, runs, segments and logs.
    pub fn read(
        opening: &Opening<'_>,
        manifest: Manifest,
        survey: &Survey,
        note: Option<Note>,
    ) -> Result<Reading> {
        Reading::read_with(opening, manifest, survey, note, false)
    }

    /// The same, and with `salvage` whatever is whole behind what is damaged.
    fn read_with(
        opening: &Opening<'_>,
        manifest: Manifest,
        survey: &Survey,
        note: Option<Note>,
        salvage: bool,
    ) -> Result<Reading> {
        let lenient = opening.options.read_only;
        let mut faults = Damage { lenient, salvage, ..Damage::default() };
        let files = open_files(opening, &manifest, &mut faults)?;
        let logs = open_logs(opening, &manifest, survey, &mut faults)?;
        let (heads, counts) = load_heads(&files, &manifest, &mut faults)?;
        let fates = load_fates(&files, &counts, &mut faults)?;
        let session = draw(&*opening.options.env, opening.disk)?;
        let log =
            logs.first().cloned().unwrap_or_else(|| Arc::new(LogFile::absent(opening.disk, manifest.store)));
        let identity = (opening.options.clone(), manifest.store);
        let layer = Arc::new(Layer::new(log.clone(), counts));
        let kernel = Kernel::new(identity, manifest.sessions.clone(), (heads, fates), files, layer, counts);
        let recovery = Recovery::default();
        // Losses of live log segments are told by their headers; the manifest knows of older ones only. A channel comes with a
        // change.
        let sealed =
            |loss: &Loss| loss.version <= log.header.base_version && u64::from(loss.channels) <= loss.version;
        if !logs.is_empty() && !manifest.losses.iter().all(sealed) {
            let path = opening.disk.path().join(crate::files::manifest::NAME);
            let what = "a loss is newer than the log's begin, or of more channels than changes";
            faults.forgive(Err::<(), _>(Error::corrupt(&path, 0, what)))?;
            // A layer rests on it that a channel has a gap before its first message there, or none.
            kernel.edit_files(|files| files.losses = files.losses.iter().copied().filter(sealed).collect());
        }
        let mut reading =
            Reading { manifest, kernel, log, scan: LogScan::default(), recovery, faults, session, note };
        match salvage {
            true => reading.salvage(&logs)?,
            false => reading.replay(&logs)?,
        }
        reading.settle(opening.disk)?;
        Ok(reading)
    }

    /// Replays the live log segments, as far as they are published.
    fn replay(&mut self, logs: &[Arc<LogFile>]) -> Result<()> {
        let session = logs.last().map_or(0, |last| last.header.session);
        for (index, log) in logs.iter().enumerate() {
            let published = self.note.map_or(Some(u64::MAX), |note| note.upto(&log.header, session));
            if index > 0 {
                if published.is_none() {
                    return Ok(());
                }
                self.follow(log);
            }
            self.log = log.clone();
            let end = logs.get(index + 1).map(|next| next.header.previous_end);
            let upto = published.unwrap_or(HEADER);
            let (_, scan) = replay(&self.kernel, end, self.faults.lenient, upto);
            let Some(scan) = self.faults.forgive(scan)? else { return Ok(()) };
            self.scan = scan;
            self.recovery.log_segments += 1;
            self.recovery.log_bytes += scan.end;
            self.recovery.commits += scan.commits;
            let (segment, bytes, commits, torn) = (log.header.segment, scan.end, scan.commits, scan.torn);
            tracing::debug!(name: "replay", target: "chanlog", segment, bytes, commits, torn, "a log segment was read");
            if upto < u64::MAX {
                // What comes later is not published yet.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Replays all whole frames of the live log segments. Where one is missing, a layer of its own begins: within a layer a
    /// channel's seqs are contiguous.
    fn salvage(&mut self, logs: &[Arc<LogFile>]) -> Result<()> {
        let cut = self.faults.open_end;
        // A name takes a few bytes at least: there were never more of them than files have room for.
        let runs = self.manifest.runs.iter().map(|run| run.len).sum::<u64>();
        let room =
            logs.iter().filter_map(|log| log.read_all().ok()).map(|bytes| bytes.len() as u64).sum::<u64>();
        let most = u32::try_from(runs.saturating_add(room)).unwrap_or(u32::MAX);
        for (index, log) in logs.iter().enumerate() {
            let header = &log.header;
            let before = self.kernel.moment().counts;
            if before.version < header.base_version {
                self.faults.commits.push((before.version + 1, Some(header.base_version)));
            }
            let version = before.version.max(header.base_version);
            // A channel comes with a change.
            let made = most.min(u32::try_from(version).unwrap_or(u32::MAX));
            let counts = Counts {
                version,
                channels: before.channels.max(header.channels.min(made)),
                users: before.users.max(header.users.min(most)),
                ..before
            };
            if index > 0 && header.session != self.log.header.session {
                self.end_session(counts);
            }
            self.kernel.replayed(counts);
            self.kernel.roll(Arc::new(Layer::new(log.clone(), counts)));
            self.log = log.clone();
            let end = logs.get(index + 1).filter(|next| next.header.segment == header.segment + 1);
            self.scan = salvage(&self.kernel, end.map(|next| next.header.previous_end), &mut self.faults)?;
        }
        if cut || self.faults.open_end || self.scan.followed {
            self.faults.commits.push((self.kernel.moment().counts.version + 1, None));
        }
        Ok(())
    }

    /// The next log segment begins, perhaps that of another session.
    fn follow(&mut self, next: &Arc<LogFile>) {
        let counts = self.kernel.moment().counts;
        if next.header.session != self.log.header.session {
            self.end_session(counts);
        }
        self.kernel.roll(Arc::new(Layer::new(next.clone(), counts)));
    }

    /// Notes the end of the session that wrote the present segment, and whether it may have taken messages that somebody
    /// saw.
    fn end_session(&mut self, counts: Counts) {
        self.kernel.sessions.push(Session { id: self.log.header.session, last: counts.version });
        if self.may_have_lost() && !fault(8) {
            let session = self.log.header.session;
            let loss = Loss { version: counts.version, channels: counts.channels, session };
            let losses = std::iter::repeat_n(loss, 1 + usize::from(fault(7)));
            self.kernel
                .edit_files(|files| files.losses = files.losses.iter().copied().chain(losses).collect());
        }
    }

    /// Whether the end of the present session may have taken messages that somebody saw, and that do not come again: to a
    /// replica they are applied again.
    fn may_have_lost(&self) -> bool {
        self.log.header.buffered && !self.scan.closed && self.manifest.replica.is_none()
    }

    /// Judges the log's end.
    fn settle(&mut self, disk: &Disk) -> Result<()> {
        if self.scan.followed && !fault(83) {
            let path = disk.path().join(log::name(self.log.header.segment + 1));
            let missing = Error::corrupt(&path, 0, "the log segment is missing");
            self.faults.forgive(Err::<(), _>(missing))?;
        }
        self.recovery.clean = self.scan.closed;
        self.recovery.torn_bytes = self.scan.torn;
        // Where a writer beside this reader goes on, nothing has ended.
        if self.note.is_none_or(|note| note.session != self.log.header.session) {
            self.recovery.gap = self.may_have_lost();
            self.end_session(self.kernel.moment().counts);
        }
        self.recovery.losses = self.kernel.moment().files.losses.len() as u64;
        self.recovery.damaged = self.faults.found.len() as u64;
        Ok(())
    }

    /// Bytes of an unfinished commit at the log's end.
    pub fn torn(&self) -> u64 {
        self.scan.torn
    }

    /// The parts, for somebody who only reads.
    fn parts(self) -> Result<Parts> {
        self.faults.found.iter().for_each(|fault| tracing::error!(name: "damage", target: "chanlog", %fault, "a part of the store is damaged"));
        let start = Start { log: self.log, end: self.scan.end, begun: false, session: self.session };
        Ok((self.manifest, Arc::new(self.kernel), start, self.recovery))
    }

    /// The second half: makes what was read durable.
    fn mend(mut self, opening: &Opening<'_>, survey: &Survey) -> Result<Parts> {
        mend(&self.log, &self.scan)?;
        self.name_again(opening.disk)?;
        self.remove_orphans(opening.disk, survey)?;
        self.parts()
    }

    /// Makes the last log segment's name durable if that is in doubt (R2): it may be there only because the sync of its
    /// directory failed, and no later sync makes up for that. Then it has no frame, as nobody got to write one, and no
    /// manifest says that it is the first. Sealing and this session's first segment rest on it, but nothing is written to
    /// it: so it may be short.
    fn name_again(&mut self, disk: &Disk) -> Result<()> {
        let header = self.log.header;
        if fault(34) || self.scan.end > HEADER || header.segment == self.manifest.first_log {
            return Ok(());
        }
        let capacity = HEADER + PAGE as u64;
        self.log = Arc::new(LogFile::create(disk, self.manifest.store, Header { capacity, ..header })?);
        Ok(())
    }

    /// Removes what the manifest does not name. The manifest may have come so far that it was seen, and not so far that it
    /// was durable; so it is made durable first, else a loss of power could bring back one that names what is removed.
    fn remove_orphans(&mut self, disk: &Disk, survey: &Survey) -> Result<()> {
        let orphans = orphans(&self.manifest, survey);
        if orphans.is_empty() || !self.faults.found.is_empty() && !fault(35) {
            return Ok(());
        }
        match unless(9, || self.manifest.store(disk)) {
            Ok(()) => {}
            // They take room and do no harm; another opening may have room for the manifest.
            Err(Error::OutOfSpace { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        // A file that can't be removed now is tried again at the next opening.
        self.recovery.orphans = orphans.iter().filter(|name| disk.remove(name).is_ok()).count() as u64;
        let files = self.recovery.orphans;
        tracing::debug!(name: "orphans", target: "chanlog", files, "files of unfinished work were removed");
        Ok(())
    }
}

/// Makes all up to the log's end durable (R2) and all after it zero (R3). After a clean close that is the close frame alone:
/// its own sync may have failed.
fn mend(log: &LogFile, scan: &LogScan) -> Result<()> {
    // A copy, as a map would change under the write.
    let mut tail = log.raw(scan.durable, (scan.end - scan.durable) as usize)?.to_vec();
    tail.resize(tail.len() + scan.torn as usize, 0);
    if tail.is_empty() || fault(33) {
        return Ok(());
    }
    let Some(right) = log.take_right() else { return Ok(()) };
    log.write(&tail, scan.durable)?;
    let _ = log.sync(&right)?;
    log.give_right(right);
    Ok(())
}
