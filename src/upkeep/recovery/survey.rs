//! What a store's directory holds, and whether it is a store's directory at all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::env::fault;
use crate::env::sync::{Arc, sleep};
use crate::env::{Dir, Env};
use crate::error::{Error, Result};
use crate::files::erased;
use crate::files::log;
use crate::files::manifest::{self, Manifest};
use crate::files::note;
use crate::files::reserve;
use crate::files::sealed::Kind;

/// The name of the file that is locked where a directory can't be. Older stores have it in any case.
pub const LOCK: &str = "chanlog.lock";

/// A lock that is taken is tried again for as long in any case: a reader takes it for a moment, to find out whether there is
/// a writer.
const LOCK_LEAST: Duration = Duration::from_millis(4);
/// The time between two tries, at first and at most.
const LOCK_PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Survey {
    pub manifest: bool,
    pub logs: BTreeSet<u64>,
    /// Names of sealed files and unfinished ones.
    pub others: Vec<String>,
    /// An entry that no store makes.
    pub foreign: Option<OsString>,
}

/// Checks that nothing was written yet, where the manifest says so. The first segment may be there, but empty.
pub fn check_unborn(dir: &dyn Dir, survey: &Survey) -> Result<()> {
    match survey.logs.last() {
        None | Some(1) => Ok(()),
        Some(id) => {
            let path = dir.path().join(manifest::NAME);
            Err(Error::corrupt(&path, 0, format!("does not know log segment {id}")))
        }
    }
}

/// Lists a directory.
pub fn survey(dir: &dyn Dir) -> Result<Survey> {
    let names = dir.list().map_err(|e| Error::io("list", dir.path(), e))?;
    let mut survey = Survey::default();
    for name in names {
        match name.to_str() {
            Some(LOCK | manifest::TEMPORARY | note::NAME | reserve::NAME | erased::NAME) => {}
            Some(manifest::NAME) => survey.manifest = true,
            Some(ours) if numbered(ours, "log-").is_some() => survey.logs.extend(numbered(ours, "log-")),
            Some(ours) if is_part(ours) => survey.others.push(ours.into()),
            _ => survey.foreign = Some(name),
        }
    }
    Ok(survey)
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
pub fn check_ours(dir: &dyn Dir, survey: &Survey) -> Result<()> {
    if survey.manifest {
        return Ok(());
    }
    let log = survey.logs.first().map(|id| log::name(*id).into());
    let part = survey.others.first().map(Into::into);
    match survey.foreign.clone().or(log).or(part) {
        Some(entry) => {
            Err(Error::NotAStore { dir: dir.path().into(), entry: Some(entry.to_string_lossy().into()) })
        }
        None => Ok(()),
    }
}

/// Opens the directory of a store, or makes it. One that holds anything else is refused.
pub fn open_dir(env: &dyn Env, path: &Path) -> Result<Arc<dyn Dir>> {
    match env.open_dir(path, false) {
        Ok(dir) => {
            let survey = survey(&*dir)?;
            check_ours(&*dir, &survey)?;
            if survey.manifest {
                return Ok(dir);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("open", path, e)),
    }
    // Also where it exists, so that its path is durable: an opening that a crash cut may have made it.
    env.open_dir(path, true).map_err(|e| Error::io("create", path, e))
}

/// Takes the lock of the store in `dir`, which is waited for for a time.
pub fn lock(dir: &dyn Dir, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
    let timeout = timeout.max(LOCK_LEAST);
    let (since, mut pause) = (Instant::now(), LOCK_PAUSES[0]);
    loop {
        match dir.lock() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && fault(62) => return Ok(Box::new(())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let left = timeout.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Err(Error::Locked { dir: dir.path().into() });
                }
                sleep(pause.min(left));
                pause = (pause * 2).min(LOCK_PAUSES[1]);
            }
            locked => return locked.map_err(|e| Error::io("lock", dir.path(), e)),
        }
    }
}

/// The names of the files that the manifest does not name: of unfinished work, or replaced.
pub fn orphans(manifest: &Manifest, survey: &Survey) -> Vec<String> {
    let segments = manifest.segments.iter().map(|entry| Kind::Segment.name(entry.id));
    let runs = manifest.runs.iter().map(|entry| Kind::Run.name(entry.id));
    let named: BTreeSet<String> = segments.chain(runs).collect();
    let sealed = survey.logs.range(..manifest.first_log).map(|id| log::name(*id));
    sealed.chain(survey.others.iter().filter(|name| !named.contains(*name)).cloned()).collect()
}
