//! The operating system's files.
//!
//! Invariants:
//! * A path is resolved once, when a directory is opened. All else goes through the directory's descriptor.
//! * Every descriptor is closed by an exec.
//! * What a signal interrupts is tried again. Beyond that a failed sync is never tried again.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::sync::Arc;
use super::{Access, Advice, Dir, Env, File, check_name, map, uninterrupted};

/// The file that is locked where the file system can't lock a directory.
const LOCK: &str = "chanlog.lock";
/// The least that is allocated by one call, in bytes.
const LEAST: u64 = 64 << 10;

/// The real file system and clocks.
#[derive(Debug)]
pub struct OsEnv {
    start: Instant,
}

impl OsEnv {
    /// The environment that a store uses unless told otherwise.
    pub fn new() -> Self {
        OsEnv { start: Instant::now() }
    }
}

impl Default for OsEnv {
    fn default() -> Self {
        OsEnv::new()
    }
}

impl Env for OsEnv {
    fn open_dir(&self, path: &Path, make: bool) -> io::Result<Arc<dyn Dir>> {
        let path = std::path::absolute(path)?;
        if make {
            make_durable(&path)?;
        }
        Ok(Arc::new(OsDir { file: open_directory(&path)?, path }))
    }

    fn unix_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

/// The deliberate fault that this process is to make; 0 for none.
#[cfg(deliberate_faults)]
pub fn chosen_fault() -> u32 {
    static CHOSEN: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let number = std::env::var("CHANLOG_FAULT").ok();
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    });
    *CHOSEN
}

/// Opens what is reached from `dir` by `path`. Only a file that is made here gets a mode.
fn open_at(dir: impl rustix::fd::AsFd, path: &Path, flags: OFlags) -> io::Result<fs::File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let open = || Ok(rustix::fs::openat(&dir, path, flags | OFlags::CLOEXEC, mode)?);
    uninterrupted(open).map(fs::File::from)
}

fn open_directory(path: &Path) -> io::Result<fs::File> {
    open_at(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Makes a directory durably. What a failed sync leaves is unknown, so that what was made is taken back: a directory that
/// is found the next time would be taken for durable.
fn make_durable(path: &Path) -> io::Result<()> {
    let mut made = Vec::new();
    let done = make(path, &mut made).and_then(|()| sync_above(path));
    if done.is_err() {
        // One in which somebody has put something meanwhile stays.
        made.iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
    }
    done
}

/// Makes a directory and those above it, and notes which were absent, from the top.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let create = || uninterrupted(|| DirBuilder::new().mode(0o700).create(path));
    let created = match (create(), path.parent()) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make(above, made)?;
            create()
        }
        (created, _) => created,
    };
    match created {
        Ok(()) => made.push(path.into()),
        // It was there before, or somebody else was faster.
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Makes the path to a directory durable. Also where the directories exist: an opening that a crash cut may have made them.
fn sync_above(path: &Path) -> io::Result<()> {
    for above in path.ancestors().skip(1) {
        match open_directory(above).and_then(|dir| dir.sync_all()) {
            // Whoever may not read a directory did not make the next one in it. One that can't be synced at all is of
            // a file system that nothing is written to, such as an image that a device starts from.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// An open directory.
struct OsDir {
    file: fs::File,
    path: PathBuf,
}

impl OsDir {
    /// Opens a regular file: nothing through a symbolic link, and without waiting for a pipe's other end.
    fn file(&self, name: &str, flags: OFlags) -> io::Result<fs::File> {
        check_name(name)?;
        let file = open_at(&self.file, Path::new(name), flags | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }
}

impl Dir for OsDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.file)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).into());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.file(name, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        Ok(Arc::new(OsFile(self.file(name, flags)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from).and_then(|()| check_name(to))?;
        uninterrupted(|| Ok(rustix::fs::renameat(&self.file, from, &self.file, to)?))
    }

    fn link(&self, name: &str, into: &dyn Dir) -> io::Result<()> {
        check_name(name)?;
        let into: &dyn Any = into;
        let into = into.downcast_ref::<OsDir>().ok_or(io::ErrorKind::Unsupported)?;
        uninterrupted(|| Ok(rustix::fs::linkat(&self.file, name, &into.file, name, AtFlags::empty())?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        uninterrupted(|| Ok(rustix::fs::unlinkat(&self.file, name, AtFlags::empty())?))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        // A description of its own: a lock is the description's, so that this handle could take it twice.
        let own = open_at(&self.file, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        match Lock::take(own) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(Box::new(lock_file(&self.file)?)),
            taken => Ok(Box::new(taken?)),
        }
    }
}

/// An exclusive lock by `flock`.
pub struct Lock {
    file: fs::File,
    /// The process that took it.
    owner: u32,
}

impl Lock {
    fn take(file: fs::File) -> io::Result<Lock> {
        uninterrupted(|| Ok(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?))?;
        Ok(Lock { file, owner: process::id() })
    }
}

impl Drop for Lock {
    /// Unlocks, as a close alone does not where a forked child has the descriptor too. The child has no lock of its own,
    /// and must not take its parent's away.
    fn drop(&mut self) {
        if self.owner == process::id() {
            let _ = uninterrupted(|| Ok(rustix::fs::flock(&self.file, FlockOperation::Unlock)?));
        }
    }
}

/// Locks a file in a directory that can't be locked itself, as on NFS.
pub fn lock_file(dir: &fs::File) -> io::Result<Lock> {
    let name = Path::new(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    loop {
        let lock = Lock::take(open_at(dir, name, flags)?)?;
        let held = rustix::fs::fstat(&lock.file)?;
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => return Ok(lock),
            // The file was removed or replaced before it was locked: others lock the one that has the name.
            Ok(_) | Err(Errno::NOENT | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

struct OsFile(fs::File);

impl File for OsFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let call = |offset, len| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), offset, len);
        match reserve(len, call) {
            // Some file systems can't reserve. A write may then find the disk full, which the log can handle.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? < len => self.0.set_len(len),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if len > 0 => Ok(()),
            done => Ok(done?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn map(&self) -> io::Result<Option<Bytes>> {
        map::map(&self.0).map(Some)
    }

    fn advise(&self, advice: Advice) {
        let advice = match advice {
            Advice::Random => rustix::fs::Advice::Random,
            Advice::Sequential => rustix::fs::Advice::Sequential,
        };
        let _ = rustix::fs::fadvise(&self.0, 0, None, advice);
    }
}

/// Reserves space up to `len` by calls with offset and length: by one if no signal comes.
pub fn reserve(len: u64, mut call: impl FnMut(u64, u64) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let mut step = len;
    let mut done = 0;
    loop {
        let part = step.min(len - done);
        match call(done, part) {
            Ok(()) if done + part == len => return Ok(()),
            Ok(()) => done += part,
            // A tmpfs of older kernels gives all back that a call has got when a signal interrupts it. Under a
            // profiler, which sends them all the time, only shorter calls get through.
            Err(Errno::INTR) => step = (step / 2).max(LEAST),
            Err(error) => return Err(error),
        }
    }
}
