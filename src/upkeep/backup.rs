//! Backups: a second directory that holds the store as it was at one moment, and opens as one.
//!
//! Sealed files never change, so a backup is their names in another directory (hard links; copies where the file system
//! can't) and a manifest, without a log: whoever opens it for writing makes the first segment, as in a new store. A backup into the directory of an earlier one links what is
//! new, and removes what is no longer named.
//!
//! Invariants: a backup's manifest is replaced only after all that it names is durable, so that a crash leaves the earlier
//! backup or the new one. A file counts as there by number, length and trailer. Nothing is ever written to a file that was
//! found in the directory: it may be one that the store has too.

use std::io;
use std::path::Path;

use super::files::Upkeep;
use super::recovery::{Survey, check_ours, lock, orphans, survey};
use crate::env::sync::Arc;
use crate::env::{Access, Dir, File};
use crate::env::{fault, skip};
use crate::error::{Error, Result};
use crate::files::disk::Disk;
use crate::files::log::Header;
use crate::files::manifest::{Manifest, Session};
use crate::files::sealed::{Kind, TRAILER};

/// How much is copied at once, in bytes.
const CHUNK: usize = 1 << 20;

/// What a backup did. Made by [`Store::backup`](crate::Store::backup).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Backup {
    /// The version of the last change that it holds.
    pub version: u64,
    /// Files that were given a second name.
    pub linked: u64,
    /// Files that were copied, as the directory is on another file system or one without links.
    pub copied: u64,
    /// Files that an earlier backup in the directory held already.
    pub kept: u64,
    /// The length of all files, in bytes.
    pub bytes: u64,
}

impl Upkeep {
    /// Makes a directory hold what is sealed.
    pub fn back_up(&self, to: &Path) -> Result<Backup> {
        // Nothing is removed, and the manifest stays, while files are linked.
        let _alone = (self.sealing.lock(), self.merging_segments.lock(), self.merging_runs.lock());
        self.check()?;
        let (manifest, version) = self.sealed_part()?;
        let target = Target::open(self, to)?;
        target.check(&manifest)?;
        let mut backup = Backup { version, ..Backup::default() };
        let segments = manifest.segments.iter().map(|entry| (Kind::Segment.name(entry.id), entry.len));
        let runs = manifest.runs.iter().map(|entry| (Kind::Run.name(entry.id), entry.len));
        for (name, len) in segments.chain(runs) {
            target.add(&name, len, &mut backup)?;
            backup.bytes += len;
        }
        target.finish(&manifest)?;
        Ok(backup)
    }

    /// A manifest of all that is sealed, and the last version there.
    fn sealed_part(&self) -> Result<(Manifest, u64)> {
        let mut manifest = self.manifest();
        let moment = self.kernel.moment();
        if manifest.unborn() {
            return Ok((manifest, moment.counts.version));
        }
        let rest = moment.layers().find(|layer| layer.log.header.segment == manifest.first_log);
        let Header { session, base_version, .. } =
            rest.ok_or_else(|| Error::invalid("the store has no log"))?.log.header;
        if self.options.read_only && moment.counts.version > base_version {
            // What is not sealed can't be linked, and a reader seals nothing.
            return Err(Error::ReadOnly);
        }
        // For the backup the session that goes on here has ended, so that its tokens from before are good there.
        skip(52, || manifest.sessions.push(Session { id: session, last: base_version }));
        manifest.first_log = 0;
        Ok((manifest, base_version))
    }
}

/// The directory of a backup.
struct Target<'u> {
    source: &'u Disk,
    /// As it is; links are made into it.
    dir: Arc<dyn Dir>,
    disk: Disk,
    survey: Survey,
    /// The earlier backup's.
    before: Option<Manifest>,
    _lock: Box<dyn Send + Sync>,
}

impl<'u> Target<'u> {
    fn open(upkeep: &'u Upkeep, to: &Path) -> Result<Target<'u>> {
        let env = &upkeep.options.env;
        let dir = env.open_dir(to, true).map_err(|e| Error::io("create", to, e))?;
        let lock = lock(&*dir, upkeep.options.lock_timeout)?;
        let survey = survey(&*dir)?;
        check_ours(&*dir, &survey)?;
        let before = Manifest::load(&*dir)?;
        Ok(Target { source: &upkeep.disk, disk: Disk::new(dir.clone()), dir, survey, before, _lock: lock })
    }

    /// Refuses a directory of another store, and of one that was written to since it was a backup.
    fn check(&self, manifest: &Manifest) -> Result<()> {
        let Some(before) = &self.before else { return Ok(()) };
        let refuse = |what: &str| Err(Error::invalid(format!("{} {what}", self.dir.path().display())));
        if before.store != manifest.store {
            return refuse("holds another store");
        }
        match before.unborn() && self.survey.logs.is_empty() {
            true => Ok(()),
            false => refuse("was opened for writing since it was a backup"),
        }
    }

    /// Sees to it that a sealed file is there.
    fn add(&self, name: &str, len: u64, backup: &mut Backup) -> Result<()> {
        let path = self.dir.path().join(name);
        let count = if self.has(name, len)? {
            &mut backup.kept
        } else {
            // What has the name is of a backup that was cut, or of a copy that went on.
            match self.dir.remove(name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
                _ => {}
            }
            match self.source.link(name, &*self.dir) {
                Ok(()) => &mut backup.linked,
                Err(_) => {
                    self.copy(name, len)?;
                    &mut backup.copied
                }
            }
        };
        *count += 1;
        Ok(())
    }

    /// Whether a file is there, whole.
    fn has(&self, name: &str, len: u64) -> Result<bool> {
        let there = match self.dir.open(name, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", &self.dir.path().join(name), e)),
        };
        let io = |e| Error::io("read", &self.dir.path().join(name), e);
        if there.len().map_err(io)? != len {
            return Ok(false);
        }
        let trailer = |file: &dyn File| -> io::Result<[u8; TRAILER]> {
            let mut bytes = [0; TRAILER];
            file.read_at(&mut bytes, len.saturating_sub(TRAILER as u64))?;
            Ok(bytes)
        };
        let ours = self.source.open(name, Access::Read).and_then(|file| trailer(&*file)).map_err(io)?;
        Ok(trailer(&*there).map_err(io)? == ours || fault(51))
    }

    fn copy(&self, name: &str, len: u64) -> Result<()> {
        let path = self.dir.path().join(name);
        let from = self.source.open(name, Access::Read);
        let from = from.map_err(|e| Error::io("open", &self.source.path().join(name), e))?;
        let copied = self.dir.create(name).and_then(|to| {
            let mut chunk = vec![0; CHUNK.min(len as usize)];
            for at in (0..len).step_by(CHUNK) {
                let part = &mut chunk[..CHUNK.min((len - at) as usize)];
                from.read_at(part, at)?;
                to.write_at(part, at)?;
            }
            to.sync()
        });
        copied.map_err(|e| Error::io("copy", &path, e))
    }

    /// Names all of it, and removes what an earlier backup had besides.
    fn finish(self, manifest: &Manifest) -> Result<()> {
        self.disk.sync().map_err(|e| Error::io("sync", self.dir.path(), e))?;
        manifest.store(&self.disk)?;
        // What can't be removed now is removed when the backup is opened.
        for name in orphans(manifest, &self.survey) {
            let _ = self.disk.remove(&name);
        }
        Ok(())
    }
}
