//! Opening a store: from files to the published state.
//!
//! The first half only reads. Whatever is wrong is found there, so that a store which can't be opened is not changed by a
//! byte. The second half repairs what a crash leaves: it removes orphans, makes the end of the log durable, zeroes what
//! lies behind it, and notes the new incarnation.
//!
//! Invariants:
//! * R1. What is recovered is a prefix of the log, in whole commits, and everything below the durable mark is in it.
//! * R2. Before anything is served, all of it is durable: after a crash the page cache may hold bytes that no sync will
//!   write any more, so they are written again.
//! * R3. Behind the log's end there are zeros, so that no frame of a lost commit can follow a new one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::change::{Change, Key};
use crate::codec::Reader;
use crate::env::{Access, Env};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::log::{self, Frame, FrameHeader, FrameKind, HEADER, LogFile, Scan, finish_frame, start_frame};
use crate::manifest::{self, Entry, Loss, Manifest, StoreError};
use crate::memtable::Memtable;
use crate::options::{BUFFERED_WINDOW, Options};
use crate::sealed::Kind;
use crate::segment::{BlockCache, Segment};
use crate::stage::Overlay;
use crate::stat::Recovery;
use crate::state::{Base, Effects, Named, Part, Published, State, Unsealed};
use crate::table::Run;
use crate::types::Mark;

/// The name of the file that is locked while a store is open.
pub const LOCK: &str = "chanlog.lock";

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

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Survey {
    pub manifest: bool,
    pub logs: BTreeSet<u64>,
    /// Paths of sealed files and unfinished ones.
    pub others: Vec<PathBuf>,
    /// An entry that no store makes.
    pub foreign: Option<OsString>,
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

/// Checks that nothing was written yet, where the manifest says so. The first segment may be there, but empty.
pub fn check_unborn(dir: &Path, survey: &Survey) -> Result<()> {
    match survey.logs.last() {
        None | Some(1) => Ok(()),
        Some(id) => {
            Err(Error::corrupt(&dir.join(manifest::NAME), 0, format!("does not know log segment {id}")))
        }
    }
}

/// Lists a directory; `None` if it is absent.
pub fn survey(env: &dyn Env, dir: &Path) -> Result<Option<Survey>> {
    let names = match env.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let mut survey = Survey::default();
    for name in names {
        match name.to_str() {
            Some(LOCK | manifest::TEMPORARY) => {}
            Some(manifest::NAME) => survey.manifest = true,
            Some(ours) if numbered(ours, "log-").is_some() => survey.logs.extend(numbered(ours, "log-")),
            Some(ours) if is_part(ours) => survey.others.push(dir.join(ours)),
            _ => survey.foreign = Some(name),
        }
    }
    Ok(Some(survey))
}

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn is_part(name: &str) -> bool {
    let log = name.strip_suffix(".tmp").and_then(|log| numbered(log, "log-"));
    log.or(numbered(name, "seg-")).or(numbered(name, "run-")).is_some()
}

/// Refuses a directory without a manifest that holds anything.
fn check_ours(dir: &Path, survey: &Survey) -> Result<()> {
    if survey.manifest {
        return Ok(());
    }
    let log = survey.logs.first().map(|id| log::path(dir, *id).into_os_string());
    let part = survey.others.first().map(|path| path.clone().into_os_string());
    match survey.foreign.clone().or(log).or(part) {
        Some(entry) => Err(Error::NotAStore { dir: dir.into(), entry: entry.to_string_lossy().into() }),
        None => Ok(()),
    }
}

fn create_dir(env: &dyn Env, dir: &Path) -> Result<()> {
    env.create_dir(dir).map_err(|e| Error::io("create", dir, e))
}

/// Makes the path to a new store durable. Also where the directories exist: an opening that a crash cut may have made
/// them.
fn sync_path(env: &dyn Env, dir: &Path) -> Result<()> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match env.sync_dir(above) {
            // Whoever may not read a directory did not make the next one in it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|e| Error::io("sync", above, e))?,
        }
    }
    Ok(())
}

/// Takes the lock of the store in `dir`.
pub fn lock(env: &dyn Env, dir: &Path) -> Result<Box<dyn Send + Sync>> {
    let path = dir.join(LOCK);
    env.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { dir: dir.into() },
        _ => Error::io("lock", &path, e),
    })
}

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

fn open_base(env: &dyn Env, dir: &Path, manifest: &Manifest, cache: &Arc<BlockCache>) -> Result<Base> {
    let open_run = |entry: &Entry| Run::open(env, dir, manifest.store, entry.id, entry.len, manifest.key);
    let runs = manifest.runs.iter().map(|entry| open_run(entry).map(Arc::new)).collect::<Result<_>>()?;
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entry in &manifest.segments {
        let segment = Segment::open(env, dir, manifest.store, entry.id, entry.len, cache.clone());
        match &segment {
            Ok(_) => {}
            // The rest of the store stays readable.
            Err(error @ Error::Corruption { .. }) => {
                tracing::error!(%error, "a message segment can't be read")
            }
            Err(error) => return Err(error.clone()),
        }
        segments.push(Part { entry: *entry, segment: segment.map(Arc::new) });
    }
    let losses = manifest.losses.as_slice().into();
    Ok(Base { runs, segments, frozen: Vec::new(), losses, key: manifest.key })
}

/// Opens the live log segments, oldest first, and checks that none is missing. There is at least one.
fn open_logs(env: &dyn Env, dir: &Path, manifest: &Manifest, survey: &Survey) -> Result<Vec<Arc<LogFile>>> {
    let live: Vec<u64> = survey.logs.range(manifest.first_log..).copied().collect();
    let missing = (manifest.first_log..).zip(&live).find(|(expected, id)| expected != *id);
    if live.is_empty() || missing.is_some() {
        let id = missing.map_or(manifest.first_log, |(expected, _)| expected);
        return Err(Error::corrupt(&log::path(dir, id), 0, "the log segment is missing"));
    }
    let access = |id: &u64| if live.last() == Some(id) { Access::Write } else { Access::Read };
    live.iter().map(|id| LogFile::open(env, dir, manifest.store, *id, access(id)).map(Arc::new)).collect()
}

/// The heads of all channels as of the last run, and the counts of versions, channels and users by then.
fn load_heads(base: &Base, manifest: &Manifest) -> Result<(Heads, (u64, u32, u32))> {
    let mut heads = Heads::default();
    let mut counts = (0, 0, 0);
    for run in &base.runs {
        let (channels, users) = (run.names(Named::Channel), run.names(Named::User));
        if (channels.first(), users.first()) != (counts.1, counts.2) {
            return Err(run.corrupt("its names don't follow those of the run before"));
        }
        counts.1 += channels.count();
        counts.2 += users.count();
        heads.grow(counts.1 as usize);
        run.heads(&mut |channel, head| {
            let versions = heads.get(channel).version..=run.versions().1;
            // Each message took a version, and each loss made at most one gap.
            let most = head.version + manifest.losses.len() as u64 * BUFFERED_WINDOW;
            if channel.0 >= counts.1 || !versions.contains(&head.version) || head.last.seq > most {
                return Err(run.corrupt(format!("the head of channel {} can't be", channel.0)));
            }
            heads.set(channel, head);
            Ok(())
        })?;
    }
    counts.0 = manifest.runs.last().map_or(0, |entry| entry.versions.1);
    Ok((heads, counts))
}

/// The files that the manifest does not name: of unfinished work, or replaced.
fn orphans(dir: &Path, manifest: &Manifest, survey: &Survey) -> Vec<PathBuf> {
    let segments = manifest.segments.iter().map(|entry| Kind::Segment.path(dir, entry.id));
    let runs = manifest.runs.iter().map(|entry| Kind::Run.path(dir, entry.id));
    let named: BTreeSet<PathBuf> = segments.chain(runs).collect();
    let sealed = survey.logs.range(..manifest.first_log).map(|id| log::path(dir, *id));
    sealed.chain(survey.others.iter().filter(|path| !named.contains(*path)).cloned()).collect()
}

/// Reads one log segment and publishes its commits.
fn replay(log: &Arc<LogFile>, end: Option<u64>, published: &Arc<Published>) -> Result<Scan> {
    let mut replay = Replay::new(log, published)?;
    log::scan(log, &log.read_all()?, end, &mut |frame| replay.frame(frame))
}

/// Replays the frames of one segment.
struct Replay {
    log: Arc<LogFile>,
    published: Arc<Published>,
    overlay: Overlay,
}

impl Replay {
    fn new(log: &Arc<LogFile>, published: &Arc<Published>) -> Result<Replay> {
        let overlay = Overlay::new(published.clone());
        if log.base_version != overlay.version() {
            let what = format!("begins behind version {}, not {}", log.base_version, overlay.version());
            return Err(log.corrupt(0, what));
        }
        Ok(Replay { log: log.clone(), published: published.clone(), overlay })
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let first = (self.overlay.names(Named::Channel), self.overlay.names(Named::User));
        if frame.header.first_version != self.overlay.version() + 1 {
            return Err(self.log.corrupt(frame.body_offset, "a frame's versions don't follow"));
        }
        if frame.header.kind != FrameKind::Commit {
            return Ok(());
        }
        let mut effects = Effects { first, ..Effects::default() };
        let mut reader = Reader::new(frame.body);
        for _ in 0..frame.header.count {
            let at = frame.body_offset + reader.position() as u64;
            let change = Change::decode(&mut reader).filter(|change| self.fits(change));
            let change = change.ok_or_else(|| self.log.corrupt(at, "a change is not valid"))?;
            self.overlay.apply(&change, at as u32 + 1, 0, &mut effects)?;
        }
        if !reader.is_empty() || effects.version == 0 {
            return Err(self.log.corrupt(frame.body_offset, "a commit has not the changes that it counts"));
        }
        self.published.0.write().publish(&effects);
        self.overlay.evict(0, &effects);
        Ok(())
    }

    /// Whether a change fits the state before it.
    fn fits(&self, change: &Change<'_>) -> bool {
        let known = |key: &Key| {
            key.channel.0 < self.overlay.names(Named::Channel) && key.user.0 < self.overlay.names(Named::User)
        };
        let within = |key: &Key, mark: &Mark| {
            let end = self.overlay.head(key.channel).last;
            mark.seq <= end.seq && mark.ordinal <= end.ordinal
        };
        match change {
            Change::NameChannel(_) | Change::NameUser(_) => true,
            Change::Message(record) => {
                let head = self.overlay.head(record.channel);
                known(&Key { channel: record.channel, user: record.sender })
                    && record.version == self.overlay.version() + 1
                    && self.overlay.next_seq(record.channel, &head).is_ok_and(|next| record.mark.seq == next)
                    && record.mark.ordinal == head.last.ordinal + u64::from(!record.silent)
            }
            Change::Join { key, base, read } => known(key) && within(key, base) && within(key, read),
            Change::Read { key, mark } | Change::Hide { key, mark } => known(key) && within(key, mark),
            Change::Leave { key, .. } | Change::Activate { key } => known(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Draft};
    use crate::env::SimEnv;
    use crate::record::Record;
    use crate::types::{ChannelId, UserId};

    const DIR: &str = "/store";
    const KEY: Key = Key { user: UserId(0), channel: ChannelId(0) };

    fn message(seq: u64, ordinal: u64, version: u64) -> Change<'static> {
        let (channel, sender, mark) = (KEY.channel, KEY.user, Mark { seq, ordinal });
        let record = Record {
            channel,
            sender,
            mark,
            version,
            timestamp: 0,
            silent: false,
            id: None,
            client_id: None,
            payload: b"x",
        };
        Change::Message(record)
    }

    /// Opens a store whose log holds one commit of these changes behind the names of one channel and one user.
    fn open_with(changes: &[Change<'_>]) -> Result<Opened> {
        let sim = SimEnv::new(1);
        let options = Options::new().env(sim.clone()).log_segment(8 << 10).background(false);
        let made = open(&options, Path::new(DIR))?;
        let mut bytes = Vec::new();
        let at = start_frame(&mut bytes);
        let names = [Change::NameChannel(b"c"), Change::NameUser(b"u")];
        names.iter().chain(changes).for_each(|change| change.encode(&mut bytes));
        let count = (names.len() + changes.len()) as u32;
        let header = FrameHeader {
            kind: FrameKind::Commit,
            buffered: false,
            count,
            first_version: 1,
            durable: HEADER,
        };
        finish_frame(&mut bytes, at, &made.log.binding, HEADER, &header);
        made.log.write(&bytes, HEADER)?;
        drop(made);
        open(&options, Path::new(DIR))
    }

    #[test]
    fn changes_that_contradict_the_rules_are_corruption_behind_a_good_checksum() {
        let zero = Mark::default();
        let far = Mark { seq: u64::MAX, ordinal: 0 };
        let join = |base, read| Change::Join { key: KEY, base, read };
        let good = [message(1, 1, 1), message(2, 2, 2), join(zero, Mark { seq: 2, ordinal: 2 })];
        assert!(open_with(&good).is_ok());
        let bad: [&[Change<'_>]; 9] = [
            &[message(2, 1, 1)],
            &[message(1, 1, 1), message(3, 2, 2)],
            &[message(u64::MAX, 1, 1)],
            &[message(1, 0, 1)],
            &[message(1, 1, 2)],
            &[join(far, zero)],
            &[join(zero, far)],
            &[join(zero, zero), Change::Read { key: KEY, mark: far }],
            &[join(zero, zero), Change::Hide { key: KEY, mark: far }],
        ];
        for changes in bad {
            let opened = open_with(changes).map(drop);
            assert!(matches!(opened, Err(Error::Corruption { .. })), "{changes:?}: {opened:?}");
        }
    }

    #[test]
    fn a_loss_that_no_segment_follows_is_corruption() {
        let sim = SimEnv::new(0);
        let options = || Options::new().env(sim.clone()).background(false);
        let store = options().open("/store").unwrap();
        store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi"))).unwrap();
        store.close().unwrap();
        let dir = Path::new("/store");
        for (version, channels, open) in [(0, 0, true), (0, 1, false), (1, 1, false), (u64::MAX, 1, false)] {
            let mut manifest = Manifest::load(&*sim, dir).unwrap().unwrap();
            manifest.losses = vec![Loss { version, channels }];
            assert!(manifest.store(&*sim, dir).is_ok());
            let opened = options().open(dir).map(drop);
            assert!(matches!(opened, Ok(()) | Err(Error::Corruption { .. })), "{opened:?}");
            assert_eq!(opened.is_ok(), open, "a loss behind version {version}");
        }
    }
}
