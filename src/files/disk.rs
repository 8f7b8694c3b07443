//! The store's directory, with the health of the store in front of it.
//!
//! One cell says whether the store may still be changed. Every operation that changes a file or the directory looks at it,
//! before and after, and a directory that can't be synced sets it; the log sets it too (see `log`). So a failure anywhere
//! stops all that could build upon it, in whatever thread. Reading goes on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::env::sync::atomic::{AtomicBool, Ordering};
use crate::env::sync::{Arc, Mutex, Weak};
use crate::env::{Access, Advice, Dir, File};
use crate::env::{fault, unless};
use crate::error::{Error, Result};

/// Whether a store may be changed, and if not, why.
#[derive(Debug, Default)]
pub struct Health {
    /// Quick to look at; set after `failure`.
    sick: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// Whether the failure was not told yet.
    untold: AtomicBool,
}

impl Health {
    /// The failure that stopped the store, if one did.
    pub fn check(&self) -> Result<()> {
        if !self.sick.load(Ordering::Acquire) {
            return Ok(());
        }
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    /// Stops all changes for good; the first cause stays. Returns what everybody is told.
    pub fn poison(&self, cause: Error) -> Error {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            self.untold.store(true, Ordering::Release);
        }
        let failure = failure.get_or_insert_with(|| cause.poison()).clone();
        self.sick.store(true, Ordering::Release);
        failure
    }

    /// The failure that stopped the store, once: to be told when no lock is held.
    pub fn take_untold(&self) -> Option<Error> {
        let untold = self.untold.load(Ordering::Acquire) && self.untold.swap(false, Ordering::AcqRel);
        if untold { self.failure.lock().clone() } else { None }
    }

    fn check_io(&self) -> io::Result<()> {
        unless(12, || self.check().map_err(io::Error::other))
    }
}

/// Poisons the store if a thread unwinds while a change is half done.
pub struct PanicGuard<'a> {
    health: &'a Health,
    what: &'static str,
}

impl<'a> PanicGuard<'a> {
    /// Watches over the work that `what` names, until it is dropped.
    pub fn new(health: &'a Health, what: &'static str) -> Self {
        PanicGuard { health, what }
    }
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !fault(47) {
            self.health.poison(Error::Panicked { what: self.what });
        }
    }
}

/// A directory whose changes pass by a health cell.
pub struct Disk {
    dir: Arc<dyn Dir>,
    health: Arc<Health>,
    users: Mutex<Users>,
}

/// Who uses files: tokens that live as long as handles and maps do.
#[derive(Default)]
struct Users {
    named: BTreeMap<String, Weak<()>>,
    /// Files that were removed while they were in use.
    removed: Vec<(String, Weak<()>)>,
}

impl Users {
    /// The token of a file.
    fn of(&mut self, name: &str) -> Arc<()> {
        if let Some(token) = self.named.get(name).and_then(Weak::upgrade) {
            return token;
        }
        let token = Arc::new(());
        self.named.insert(name.into(), Arc::downgrade(&token));
        token
    }

    /// Notes that a file has no name any more.
    fn remove(&mut self, name: &str) {
        if let Some(token) = self.named.remove(name) {
            self.removed.push((name.into(), token));
        }
        self.removed.retain(|(_, token)| token.strong_count() > 0);
    }
}

struct Guarded {
    file: Arc<dyn File>,
    health: Arc<Health>,
    user: Arc<()>,
}

/// A map that counts as a use of its file.
struct Mapped {
    bytes: Bytes,
    _user: Arc<()>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk {
    /// Puts a healthy cell in front of a directory.
    pub fn new(dir: Arc<dyn Dir>) -> Disk {
        Disk { dir, health: Arc::default(), users: Mutex::default() }
    }

    /// The cell.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    fn guard(&self, name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        let user = self.users.lock().of(name);
        Arc::new(Guarded { file, health: self.health.clone(), user })
    }

    /// The names of files that were removed and are still open or mapped.
    pub fn still_open(&self) -> Vec<String> {
        let mut users = self.users.lock();
        users.removed.retain(|(_, token)| token.strong_count() > 0);
        users.removed.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Dir for Disk {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.dir.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.health.check_io()?;
        self.dir.create(name).map(|file| self.guard(name, file))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.dir.open(name, access).map(|file| self.guard(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.health.check_io()?;
        self.dir.rename(from, to)?;
        let mut users = self.users.lock();
        users.remove(to);
        if let Some(token) = users.named.remove(from) {
            users.named.insert(to.into(), token);
        }
        Ok(())
    }

    fn link(&self, name: &str, into: &dyn Dir) -> io::Result<()> {
        self.dir.link(name, into)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.health.check_io()?;
        self.dir.remove(name)?;
        self.users.lock().remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.health.check_io()?;
        // The system tells an error once. So whoever hears of none looks whether another heard of one meanwhile.
        if let Err(error) = self.dir.sync() {
            let cause = Error::Io { op: "sync", path: self.path().into(), source: Arc::new(error) };
            return Err(io::Error::other(self.health.poison(cause)));
        }
        self.health.check_io()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.dir.lock()
    }
}

impl File for Guarded {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.health.check_io()?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.health.check_io()?;
        self.file.sync()?;
        unless(6, || self.health.check_io())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.health.check_io()?;
        self.file.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn map(&self) -> io::Result<Option<Bytes>> {
        let map = self.file.map()?;
        Ok(map.map(|bytes| Bytes::from_owner(Mapped { bytes, _user: self.user.clone() })))
    }

    fn advise(&self, advice: Advice) {
        self.file.advise(advice);
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("path", &self.path()).finish_non_exhaustive()
    }
}
