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

use super::fault::{Faults, Op};
use super::inode::{Inode, MAX_LEN};
use super::loss::{Dice, PowerLoss, Rng};
use super::names::{Namespace, Node};
use crate::env::sync::Arc;
use crate::env::{Access, check_name};

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
    /// Keeps the inode open.
    _open: Arc<()>,
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
        self.faults.admit(Op::CreateDir)?;
        let made = self.names.create_dir(path)?;
        let synced = self.sync_above(path);
        if synced.is_err() && !self.faults.is_down() {
            made.iter().rev().for_each(|dir| self.names.set(dir, None));
        }
        synced
    }

    fn sync_above(&mut self, path: &Path) -> io::Result<()> {
        for above in path.ancestors().skip(1) {
            match self.sync_names(above) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    pub fn list(&mut self, dir: DirHandle) -> io::Result<Vec<OsString>> {
        let dir = self.dir(dir)?;
        self.faults.admit(Op::List)?;
        Ok(self.names.list(&dir))
    }

    pub fn create(&mut self, dir: DirHandle, name: &str) -> io::Result<OpenFile> {
        let path = self.path(dir, name)?;
        self.faults.admit(Op::Create)?;
        let ino = self.file_or_new(&path)?;
        self.inode(ino).truncate();
        Ok(self.handle(path, ino, Access::Write))
    }

    pub fn open(&mut self, dir: DirHandle, name: &str, access: Access) -> io::Result<OpenFile> {
        let path = self.path(dir, name)?;
        self.faults.admit(Op::Open)?;
        let ino = self.names.file(&path)?;
        Ok(self.handle(path, ino, access))
    }

    pub fn rename(&mut self, dir: DirHandle, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(dir, from)?, self.path(dir, to)?);
        self.faults.admit(Op::Rename)?;
        self.names.rename(&from, &to)
    }

    pub fn link(&mut self, dir: DirHandle, name: &str, into: DirHandle) -> io::Result<()> {
        let (from, to) = (self.path(dir, name)?, self.path(into, name)?);
        self.faults.admit(Op::Link)?;
        let ino = self.names.file(&from)?;
        if self.names.get(&to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.names.set(&to, Some(Node::File(ino)));
        Ok(())
    }

    pub fn remove(&mut self, dir: DirHandle, name: &str) -> io::Result<()> {
        let path = self.path(dir, name)?;
        self.faults.admit(Op::Remove)?;
        self.names.file(&path)?;
        self.names.set(&path, None);
        Ok(())
    }

    pub fn sync_dir(&mut self, dir: DirHandle) -> io::Result<()> {
        let dir = self.dir(dir)?;
        self.sync_names(&dir)
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        let admitted = self.faults.admit(Op::SyncDir);
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
        !self.faults.is_down() && error.kind() != io::ErrorKind::Interrupted
    }

    pub fn lock(&mut self, dir: DirHandle) -> io::Result<Arc<()>> {
        self.dir(dir)?;
        self.faults.admit(Op::Lock)?;
        if self.locks.get(&dir.id).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = Arc::new(());
        self.locks.insert(dir.id, Arc::downgrade(&guard));
        Ok(guard)
    }

    pub fn read(&mut self, handle: &OpenFile, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(handle)?;
        self.faults.admit(Op::Read)?;
        if !self.inode(handle.ino).read(out, offset) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.faults.stats.bytes_read += out.len() as u64;
        Ok(())
    }

    pub fn read_all(&mut self, handle: &OpenFile) -> io::Result<Vec<u8>> {
        self.check(handle)?;
        self.faults.admit(Op::Read)?;
        let bytes = self.inode(handle.ino).bytes();
        self.faults.stats.bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    pub fn len(&mut self, handle: &OpenFile) -> io::Result<u64> {
        self.check(handle)?;
        Ok(self.inode(handle.ino).len())
    }

    pub fn write(&mut self, handle: &OpenFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_write(handle)?;
        let wanted = bytes.len() as u64;
        end(offset, wanted)?;
        let fault = self.faults.admit(Op::Write).err();
        let room = self.limit(handle.ino).saturating_sub(offset).min(wanted);
        let full = (room < wanted).then(|| io::ErrorKind::StorageFull.into());
        let error = fault.or(full);
        let done = if error.is_some() { self.rng.below(room + 1) } else { wanted };
        self.inode(handle.ino).write(&bytes[..done as usize], offset);
        self.faults.stats.wrote(&handle.path, done);
        error.map_or(Ok(()), Err)
    }

    pub fn allocate(&mut self, handle: &OpenFile, len: u64) -> io::Result<()> {
        self.check_write(handle)?;
        self.faults.admit(Op::Allocate)?;
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = end(0, len)?;
        if len > self.limit(handle.ino) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inode(handle.ino).grow(len);
        Ok(())
    }

    pub fn sync(&mut self, handle: &OpenFile) -> io::Result<()> {
        self.check(handle)?;
        let admitted = self.faults.admit(Op::Sync);
        match &admitted {
            Ok(()) => self.inode(handle.ino).sync(),
            Err(error) if self.gives_up(error) => self.inode(handle.ino).fail_sync(),
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
        self.collect();
    }

    /// The power goes, and comes back. Without a `loss` the seed decides how to treat unsynced state.
    pub fn power_loss(&mut self, loss: Option<PowerLoss>) {
        let mut dice = Dice::new(loss, &mut self.rng);
        self.names.lose(&mut dice);
        self.inodes.values_mut().for_each(|inode| inode.lose(&mut dice));
        self.crash();
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
        OpenFile { path, ino, epoch: self.epoch, access, _open: self.inode(ino).hold() }
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
        let named: BTreeSet<u64> = self.names.files().map(|(_, ino)| ino).collect();
        let live = self.inodes.iter().filter(|(ino, inode)| named.contains(ino) || inode.is_open());
        let used: u64 = live.map(|(_, inode)| inode.len()).sum();
        len + quota.saturating_sub(used)
    }

    /// Drops the inodes that nothing can lead to any more.
    fn collect(&mut self) {
        let named = self.names.inodes();
        self.inodes.retain(|ino, inode| named.contains(ino) || inode.is_open());
    }
}

/// The end of a range of bytes in a file.
fn end(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| *end <= MAX_LEN);
    end.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
