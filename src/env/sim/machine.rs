//! The simulated machine: names, inodes, faults and clocks together. Owns what each operation does to them; [`SimEnv`]
//! only takes the lock.
//!
//! Invariants: a failed operation changes nothing, except that a failed write may have written a part, and a failed sync
//! gives up what it should have written, unless a signal only interrupted it. A handle leads to its own directory or file,
//! whatever has their path by now.
//!
//! [`SimEnv`]: super::SimEnv

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;

use super::fault::{Faults, Hung, Op, Strike};
use super::inode::{Inode, MAX_LEN};
use super::loss::{Dice, PowerLoss, Rng};
use super::names::{Namespace, Node};
use crate::env::sync::{Arc, AtomicU64, Ordering};
use crate::env::{Access, check_name, uninterrupted};

/// The error of a process that has too many files open.
const EMFILE: i32 = 24;
/// The error of a sector that can't be read.
const EIO: i32 = 5;

/// How a disk tells that it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Space {
    /// [`File::allocate`](crate::env::File::allocate) reserves; a write finds the disk full only beyond the file's end.
    #[default]
    Reserved,
    /// Nothing can be reserved: files are sparse, and any write to a part that was never written may find the disk full.
    Sparse,
    /// Room is looked for when bytes are written back: a sync finds the disk full.
    Late,
}

/// What a disk and its system are like.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The units of 512 bytes in a sector.
    pub unit: usize,
    pub space: Space,
    /// Whether files that are open for writing have maps.
    pub maps: bool,
    /// Whether bytes that could not be written back go from the cache.
    pub drops: bool,
    /// Whether a write tells of bytes that could not be written back, and not only a sync.
    pub tells_by_write: bool,
}

impl Default for Traits {
    fn default() -> Self {
        let space = Space::default();
        Traits { unit: 1, space, maps: true, drops: false, tells_by_write: false }
    }
}

impl Traits {
    /// Any of them, by chance.
    pub fn any(rng: &mut Rng) -> Self {
        let mut coin = || rng.below(2) == 0;
        Traits {
            unit: if coin() { 1 } else { 8 },
            space: if coin() { Space::Reserved } else { Space::Sparse },
            maps: coin(),
            drops: coin(),
            tells_by_write: coin(),
        }
    }
}

/// What an open directory is known by.
#[derive(Clone, Copy, Debug)]
pub struct DirHandle {
    id: u64,
    epoch: u64,
}

/// What an open file is known by.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    ino: u64,
    /// A handle of an earlier process is dead.
    epoch: u64,
    access: Access,
    /// How many failures of writing back it need not be told of.
    known: AtomicU64,
    /// Keeps the inode open, and counts among the open files.
    _open: [Arc<()>; 2],
}

impl OpenFile {
    /// Whether it may write.
    pub fn writes(&self) -> bool {
        self.access == Access::Write
    }
}

/// All state of a simulated machine.
#[derive(Clone, Debug)]
pub struct Machine {
    names: Namespace,
    inodes: BTreeMap<u64, Inode>,
    next_ino: u64,
    /// Held by the guards of the locks of directories.
    locks: BTreeMap<u64, Weak<()>>,
    /// The number of processes that have ended.
    epoch: u64,
    pub faults: Faults,
    pub quota: Option<u64>,
    pub traits: Traits,
    /// The most files that may be open at once.
    pub descriptors: Option<usize>,
    /// Cloned by each open file.
    open: Arc<()>,
    pub unix_ms: i64,
    pub monotonic: Duration,
    /// Decides losses and partial writes.
    rng: Rng,
    /// Feeds the process, apart from `rng`, so that what a process asks for does not change its fate.
    pub entropy: Rng,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let entropy = Rng::new(rng.next());
        Machine {
            names: Namespace::new(),
            inodes: BTreeMap::new(),
            next_ino: 1,
            locks: BTreeMap::new(),
            epoch: 0,
            faults: Faults::default(),
            quota: None,
            traits: Traits::default(),
            descriptors: None,
            open: Arc::default(),
            unix_ms: 1_700_000_000_000,
            monotonic: Duration::ZERO,
            rng,
            entropy,
        }
    }

    /// A copy that goes its own way: nothing is open or locked in it, and no fault is set.
    pub fn fork(&self, seed: u64) -> Self {
        let mut copy = self.clone();
        copy.rng = Rng::new(seed);
        copy.entropy = Rng::new(copy.rng.next());
        copy.faults = Faults::default();
        copy.crash();
        copy
    }

    /// Opens a directory. With `make`, those that are absent are made, and the path is made durable.
    pub fn open_dir(&mut self, path: &Path, make: bool) -> io::Result<DirHandle> {
        let path = Namespace::normal(path);
        self.faults.check()?;
        if make {
            self.make_dir(&path)?;
        }
        Ok(DirHandle { id: self.names.dir(&path)?, epoch: self.epoch })
    }

    /// Makes a directory durably. A failed sync has given up the names of what was made, so that it is taken back: one that
    /// is found the next time would be taken for durable.
    fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.admit(Op::CreateDir)?;
        let made = self.names.create_dir(path)?;
        let synced = self.sync_above(path);
        if synced.is_err() && !self.faults.is_down() {
            made.iter().rev().for_each(|dir| self.names.set(dir, None));
        }
        synced
    }

    fn sync_above(&mut self, path: &Path) -> io::Result<()> {
        for above in path.ancestors().skip(1) {
            match uninterrupted(|| self.sync_names(above)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    pub fn list(&mut self, dir: DirHandle) -> io::Result<Vec<OsString>> {
        let dir = self.dir(dir)?;
        self.admit(Op::List)?;
        Ok(self.names.list(&dir))
    }

    pub fn create(&mut self, dir: DirHandle, name: &str) -> io::Result<OpenFile> {
        let path = self.path(dir, name)?;
        self.admit(Op::Create)?;
        self.check_descriptors()?;
        let ino = self.file_or_new(&path)?;
        self.inode(ino).truncate();
        Ok(self.handle(path, ino, Access::Write))
    }

    pub fn open(&mut self, dir: DirHandle, name: &str, access: Access) -> io::Result<OpenFile> {
        let path = self.path(dir, name)?;
        self.admit(Op::Open)?;
        let ino = self.names.file(&path)?;
        self.check_descriptors()?;
        Ok(self.handle(path, ino, access))
    }

    pub fn rename(&mut self, dir: DirHandle, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(dir, from)?, self.path(dir, to)?);
        self.admit(Op::Rename)?;
        self.names.rename(&from, &to)
    }

    pub fn link(&mut self, dir: DirHandle, name: &str, into: DirHandle) -> io::Result<()> {
        let (from, to) = (self.path(dir, name)?, self.path(into, name)?);
        self.admit(Op::Link)?;
        let ino = self.names.file(&from)?;
        if self.names.get(&to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.names.set(&to, Some(Node::File(ino)));
        Ok(())
    }

    pub fn remove(&mut self, dir: DirHandle, name: &str) -> io::Result<()> {
        let path = self.path(dir, name)?;
        self.admit(Op::Remove)?;
        self.names.file(&path)?;
        self.names.set(&path, None);
        Ok(())
    }

    pub fn sync_dir(&mut self, dir: DirHandle) -> io::Result<()> {
        let dir = self.dir(dir)?;
        self.sync_names(&dir)
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        let admitted = self.admit(Op::SyncDir);
        match &admitted {
            Ok(()) => {
                self.names.sync(dir);
                self.collect();
            }
            Err(error) if self.gives_up(error) => self.names.fail_sync(dir),
            Err(_) => {}
        }
        admitted
    }

    /// Whether a failed sync gave up what it should have written. A crash leaves that to the kernel, which may still write
    /// it, and a signal only ends the waiting.
    fn gives_up(&self, error: &io::Error) -> bool {
        !self.faults.is_down() && error.kind() != io::ErrorKind::Interrupted && !hangs(error)
    }

    /// Lets an operation begin, unless it is its turn to fail.
    fn admit(&mut self, op: Op) -> io::Result<()> {
        match self.faults.admit(op)? {
            None => {}
            Some(Strike::Fail(kind)) => {
                self.faults.note(&[kind as u64]);
                return Err(io::Error::new(kind, format!("injected fault: {op:?}")));
            }
            Some(Strike::WriteBack(kind)) => self.fail_write_back(kind),
            Some(Strike::Take(time)) => self.advance(time),
        }
        Ok(())
    }

    /// Moves both clocks on.
    pub fn advance(&mut self, time: Duration) {
        self.monotonic += time;
        self.unix_ms += time.as_millis() as i64;
    }

    /// The system writes back what is not synced, and fails.
    pub fn fail_write_back(&mut self, kind: io::ErrorKind) {
        let dirty: Vec<u64> =
            self.inodes.iter().filter(|(_, inode)| inode.is_dirty()).map(|(ino, _)| *ino).collect();
        dirty.into_iter().for_each(|ino| self.give_up(ino, kind));
    }

    /// Gives up what a file has to write.
    fn give_up(&mut self, ino: u64, kind: io::ErrorKind) {
        let mut dice = Dice::new(Some(PowerLoss::Sectors), self.traits.unit, &mut self.rng);
        let drop = self.traits.drops.then_some(&mut dice);
        self.inodes.entry(ino).or_default().fail_sync(kind, drop);
    }

    /// A failure of writing back that this open file is told of now.
    fn untold(&mut self, handle: &OpenFile) -> io::Result<()> {
        let known = handle.known.load(Ordering::Relaxed);
        let inode = self.inode(handle.ino);
        let told = inode.untold(known);
        handle.known.store(inode.failures(), Ordering::Relaxed);
        told.map_or(Ok(()), |kind| Err(io::Error::new(kind, "earlier bytes could not be written back")))
    }

    /// An error if no further file may be opened.
    fn check_descriptors(&self) -> io::Result<()> {
        let open = Arc::strong_count(&self.open) - 1;
        match self.descriptors {
            Some(most) if open >= most => Err(io::Error::from_raw_os_error(EMFILE)),
            _ => Ok(()),
        }
    }

    pub fn lock(&mut self, dir: DirHandle) -> io::Result<Arc<()>> {
        self.dir(dir)?;
        self.admit(Op::Lock)?;
        self.check_descriptors()?;
        if self.locks.get(&dir.id).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = Arc::new(());
        self.locks.insert(dir.id, Arc::downgrade(&guard));
        Ok(guard)
    }

    pub fn read(&mut self, handle: &OpenFile, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(handle)?;
        self.admit(Op::Read)?;
        self.check_readable(handle, offset, out.len() as u64)?;
        if !self.inode(handle.ino).read(out, offset) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.faults.stats.bytes_read += out.len() as u64;
        Ok(())
    }

    pub fn read_all(&mut self, handle: &OpenFile) -> io::Result<Vec<u8>> {
        self.check(handle)?;
        self.admit(Op::Read)?;
        self.check_readable(handle, 0, u64::MAX)?;
        let bytes = self.inode(handle.ino).bytes();
        self.faults.stats.bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    /// The memory of a file that is open for writing; `None` if this system has none.
    pub fn map(&mut self, handle: &OpenFile) -> io::Result<Option<Bytes>> {
        self.check(handle)?;
        if !self.traits.maps {
            return Ok(None);
        }
        self.admit(Op::Read)?;
        self.check_readable(handle, 0, u64::MAX)?;
        let map = self.inode(handle.ino).map()?;
        self.faults.stats.bytes_read += map.len() as u64;
        Ok(Some(map))
    }

    fn check_readable(&mut self, handle: &OpenFile, offset: u64, len: u64) -> io::Result<()> {
        match self.inode(handle.ino).is_readable(offset, len) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    pub fn len(&mut self, handle: &OpenFile) -> io::Result<u64> {
        self.check(handle)?;
        Ok(self.inode(handle.ino).len())
    }

    pub fn write(&mut self, handle: &OpenFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_write(handle)?;
        let wanted = bytes.len() as u64;
        end(offset, wanted)?;
        let fault = match self.admit(Op::Write) {
            Err(error) if hangs(&error) => return Err(error),
            admitted => admitted.err(),
        };
        if fault.is_none() && self.traits.tells_by_write {
            self.untold(handle)?;
        }
        if !self.inode(handle.ino).is_writable(offset, wanted) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let room = self.room(handle.ino, offset, wanted);
        let full = (room < wanted).then(|| io::ErrorKind::StorageFull.into());
        let error = fault.or(full);
        let done = if error.is_some() { self.rng.below(room + 1) } else { wanted };
        self.inode(handle.ino).write(&bytes[..done as usize], offset);
        self.faults.note(&[handle.ino, offset, u64::from(crc32fast::hash(&bytes[..done as usize]))]);
        self.faults.stats.wrote(&handle.path, done);
        error.map_or(Ok(()), Err)
    }

    pub fn allocate(&mut self, handle: &OpenFile, len: u64) -> io::Result<()> {
        self.check_write(handle)?;
        self.admit(Op::Allocate)?;
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = end(0, len)?;
        if self.traits.space == Space::Reserved && len > self.limit(handle.ino) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inode(handle.ino).grow(len);
        Ok(())
    }

    pub fn sync(&mut self, handle: &OpenFile) -> io::Result<()> {
        self.check(handle)?;
        let mut admitted = self.admit(Op::Sync);
        if admitted.is_ok() && self.traits.space == Space::Late && self.is_overfull() {
            admitted = Err(io::ErrorKind::StorageFull.into());
        }
        match &admitted {
            Ok(()) => {
                self.inode(handle.ino).sync();
                return self.untold(handle);
            }
            Err(error) if self.gives_up(error) => {
                self.give_up(handle.ino, error.kind());
                // This file is told by this failure.
                let _ = self.untold(handle);
            }
            Err(_) => {}
        }
        admitted
    }

    /// The process ends; the page cache stays.
    pub fn crash(&mut self) {
        self.epoch += 1;
        self.faults.restart();
        self.inodes.values_mut().for_each(Inode::release);
        self.locks.clear();
        self.open = Arc::default();
        self.collect();
    }

    /// The power goes, and comes back. Without a `loss` the seed decides how to treat unsynced state.
    pub fn power_loss(&mut self, loss: Option<PowerLoss>) {
        let mut dice = Dice::new(loss, self.traits.unit, &mut self.rng);
        self.names.lose(&mut dice);
        self.inodes.values_mut().for_each(|inode| inode.lose(&mut dice));
        self.crash();
    }

    /// How many things a loss of power decides about.
    pub fn unsynced(&self) -> usize {
        let unit = self.traits.unit;
        self.names.unsynced() + self.inodes.values().map(|inode| inode.unsynced(unit)).sum::<usize>()
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.names.files().map(|(path, _)| path.clone()).collect()
    }

    pub fn read_file(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let ino = self.names.file(&Namespace::normal(path))?;
        Ok(self.inode(ino).bytes())
    }

    pub fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = Namespace::normal(path);
        self.names.create_dir(path.parent().unwrap_or(&path))?;
        let ino = self.file_or_new(&path)?;
        self.inode(ino).replace(bytes);
        self.names.persist(&path);
        Ok(())
    }

    pub fn corrupt(&mut self, path: &Path, offset: u64, xor: u8) -> io::Result<()> {
        let ino = self.names.file(&Namespace::normal(path))?;
        let inode = self.inode(ino);
        if offset >= inode.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inode.corrupt(offset, xor);
        Ok(())
    }

    pub fn spoil(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let ino = self.names.file(&Namespace::normal(path))?;
        self.inode(ino).spoil(offset);
        Ok(())
    }

    pub fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.names.rename_dir(&Namespace::normal(from), &Namespace::normal(to))
    }

    /// Where an open directory is now.
    fn dir(&self, dir: DirHandle) -> io::Result<PathBuf> {
        self.faults.check()?;
        if dir.epoch != self.epoch {
            return Err(io::Error::other("the directory was opened before the simulated crash"));
        }
        self.names.path_of(dir.id).map(Into::into).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The path of a name in an open directory.
    fn path(&self, dir: DirHandle, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.dir(dir)?.join(name))
    }

    /// An inode that a name or a handle stands for, so that it is there.
    fn inode(&mut self, ino: u64) -> &mut Inode {
        self.inodes.entry(ino).or_default()
    }

    /// The file of that name, made if need be.
    fn file_or_new(&mut self, path: &Path) -> io::Result<u64> {
        if self.names.get(path)?.is_none() {
            self.names.set(path, Some(Node::File(self.next_ino)));
            self.next_ino += 1;
        }
        self.names.file(path)
    }

    fn handle(&mut self, path: PathBuf, ino: u64, access: Access) -> OpenFile {
        let (epoch, open) = (self.epoch, self.open.clone());
        let inode = self.inode(ino);
        let (known, hold) = (inode.known_failures().into(), inode.hold());
        OpenFile { path, ino, epoch, access, known, _open: [hold, open] }
    }

    fn check(&self, handle: &OpenFile) -> io::Result<()> {
        self.faults.check()?;
        if handle.epoch == self.epoch {
            Ok(())
        } else {
            Err(io::Error::other("the file was opened before the simulated crash"))
        }
    }

    fn check_write(&self, handle: &OpenFile) -> io::Result<()> {
        self.check(handle)?;
        if handle.writes() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// How long a file may become before the disk is full, its present length in any case.
    fn limit(&mut self, ino: u64) -> u64 {
        let len = self.inode(ino).len();
        let Some(quota) = self.quota else { return u64::MAX };
        len + quota.saturating_sub(self.used(Inode::len))
    }

    /// How much of a write finds room.
    fn room(&mut self, ino: u64, offset: u64, wanted: u64) -> u64 {
        match (self.traits.space, self.quota) {
            (Space::Reserved, _) => self.limit(ino).saturating_sub(offset).min(wanted),
            (Space::Sparse, Some(quota)) => {
                let left = quota.saturating_sub(self.used(Inode::allocated));
                self.inode(ino).fitting(offset, wanted, left)
            }
            _ => wanted,
        }
    }

    /// Whether files take more room than there is.
    fn is_overfull(&self) -> bool {
        self.quota.is_some_and(|quota| self.used(Inode::allocated) > quota)
    }

    /// The bytes of all files together.
    fn used(&self, bytes: impl Fn(&Inode) -> u64) -> u64 {
        let named: BTreeSet<u64> = self.names.files().map(|(_, ino)| ino).collect();
        let live = self.inodes.iter().filter(|(ino, inode)| named.contains(ino) || inode.is_open());
        live.map(|(_, inode)| bytes(inode)).sum()
    }

    /// Drops the inodes that nothing can lead to any more.
    fn collect(&mut self) {
        let named = self.names.inodes();
        self.inodes.retain(|ino, inode| named.contains(ino) || inode.is_open());
    }
}

/// Whether an operation has to wait before it begins.
fn hangs(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Hung>())
}

/// The end of a range of bytes in a file.
fn end(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| *end <= MAX_LEN);
    end.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
