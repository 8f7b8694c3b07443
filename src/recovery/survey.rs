//! What a store's directory holds, and whether it is a store's directory at all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::error::{Error, Result};
use crate::log;
use crate::manifest::{self, Manifest};
use crate::sealed::Kind;

/// The name of the file that is locked while a store is open.
pub const LOCK: &str = "chanlog.lock";

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
pub fn check_ours(dir: &Path, survey: &Survey) -> Result<()> {
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

/// Makes the directory and those above it.
pub fn create_dir(env: &dyn Env, dir: &Path) -> Result<()> {
    env.create_dir(dir).map_err(|e| Error::io("create", dir, e))
}

/// Makes the path to a new store durable. Also where the directories exist: an opening that a crash cut may have made
/// them.
pub fn sync_path(env: &dyn Env, dir: &Path) -> Result<()> {
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

/// The files that the manifest does not name: of unfinished work, or replaced.
pub fn orphans(dir: &Path, manifest: &Manifest, survey: &Survey) -> Vec<PathBuf> {
    let segments = manifest.segments.iter().map(|entry| Kind::Segment.path(dir, entry.id));
    let runs = manifest.runs.iter().map(|entry| Kind::Run.path(dir, entry.id));
    let named: BTreeSet<PathBuf> = segments.chain(runs).collect();
    let sealed = survey.logs.range(..manifest.first_log).map(|id| log::path(dir, *id));
    sealed.chain(survey.others.iter().filter(|path| !named.contains(*path)).cloned()).collect()
}
