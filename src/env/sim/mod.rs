//! A simulated disk, exactly as strict as POSIX promises. Owns the public face; [`machine`] does the work, on [`names`]
//! and [`inode`]s, with [`fault`]s, and [`loss`] decides what the power takes.

mod fault;
mod inode;
mod loss;
mod machine;
mod names;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traits_tests;

use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::sync::{Arc, Mutex};
use super::{Access, Dir, Env, File, uninterrupted};
pub use fault::{Hang, Op, Stats};
use fault::{Hung, Strike};
pub use loss::PowerLoss;
use loss::Rng;
pub use machine::Space;
use machine::{DirHandle, Machine, OpenFile, Traits};
use names::Namespace;

/// A simulated machine with one disk, in memory, whose faults and losses follow from a seed.
///
/// It keeps to what POSIX promises and to nothing more:
///
/// - Bytes and length of a file are durable after [`File::sync`]. Until then each sector of 512 bytes may be lost by
///   itself, or be any of the versions that it went through. The same holds for the length, which [`File::allocate`],
///   writes at the end, and [`Dir::create`] of an existing file change.
/// - Names are durable after [`Dir::sync`] of their own directory, that of a new directory after a sync of the one
///   above it. A file's sync does nothing for its name. A rename happens whole or not at all.
/// - A failed sync gives up what it should have written: readers still see it, but no later sync makes it durable
///   unless it is written again. Whether it reached the disk all the same is left to chance. A failed write may have
///   written a first part. A fault of the kind `Interrupted` is a signal: the call is tried again, as on a real system.
/// - The system may fail to write back bytes at any time. Each file that is open then, and the next one that is opened if
///   there is none, is told once, by its next sync, whether or not it wrote the bytes.
///
/// Disks and systems differ: sectors may have 4,096 bytes ([`sectors`](SimEnv::sectors)), what was given up may go from the
/// page cache ([`drop_pages`](SimEnv::drop_pages)), a write may tell of bytes before it
/// ([`tell_by_write`](SimEnv::tell_by_write)), room may not be kept or looked for late ([`space`](SimEnv::space)), and maps may be
/// absent ([`maps`](SimEnv::maps)). [`any`](SimEnv::any) lets the seed choose among them.
///
/// A process ends by [`crash`](SimEnv::crash), which keeps the page cache, or by
/// [`power_loss`](SimEnv::power_loss), which does not. Either way its directories, files and locks are dead, and every call
/// on them fails. Calls on the environment itself can't be told apart by process, so stop what runs on it first:
/// [`crash_after(0)`](SimEnv::crash_after) makes every further change fail, then drop the store, then crash.
///
/// Paths need not exist anywhere; the root directory does, and relative paths start there. One thread that does the same
/// on the same seed gets the same bytes. With more threads it depends on their order.
///
/// Not modelled: renames from one directory to another, removals of directories, symbolic links, modes, boots (no call
/// tells one from the next), the signal that a map of an unreadable sector ends in (there is no map of such a file), and maps
/// of files that are open for reading only: those are copies.
///
/// ```
/// use chanlog::env::{Access, Env, PowerLoss, SimEnv};
/// use std::path::Path;
///
/// let sim = SimEnv::new(7); // Give `sim.clone()` to `Options::env` to run a store on it.
/// let dir = sim.open_dir(Path::new("/store"), true)?;
/// let file = dir.create("log")?;
/// file.write_at(b"synced", 0)?;
/// file.sync()?;
/// dir.sync()?;
/// file.write_at(b" and not", 6)?;
///
/// sim.power_loss_with(PowerLoss::Drop); // `power_loss()` lets the seed choose.
/// assert!(file.len().is_err()); // The process is gone, and with it what it had open.
/// assert_eq!(sim.read_file("/store/log")?, b"synced");
/// # assert_eq!(sim.open_dir(Path::new("/store"), false)?.open("log", Access::Read)?.len()?, 6);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SimEnv {
    machine: Arc<Mutex<Machine>>,
}

impl SimEnv {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        SimEnv::run(Machine::new(seed))
    }

    /// A machine of which the seed also decides what its disk is like, as far as a store must survive it without any
    /// refusal: sectors of 512 or 4,096 bytes, maps or none, room that is reserved or not, and what becomes of bytes that could
    /// not be written.
    #[must_use]
    pub fn any(seed: u64) -> Arc<Self> {
        let sim = SimEnv::new(seed);
        sim.vary(seed);
        sim
    }

    /// Lets a seed decide what the disk is like, as [`any`](SimEnv::any) does, and nothing else.
    pub fn vary(&self, seed: u64) {
        self.machine.lock().traits = Traits::any(&mut Rng::new(!seed));
    }

    fn run(machine: Machine) -> Arc<Self> {
        Arc::new(SimEnv { machine: Arc::new(Mutex::new(machine)) })
    }

    /// A copy of the whole machine, unsynced state included, that goes its own way from here on, by its own seed. It is as
    /// after a [`crash`](SimEnv::crash): no file is open there and none locked. Faults and counts start anew. Copies share the
    /// sectors that don't change, so that many outcomes can be tried from one state.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Arc<Self> {
        SimEnv::run(self.machine.lock().fork(seed))
    }

    /// Ends the process. What it wrote stays in the page cache, synced or not.
    pub fn crash(&self) {
        self.machine.lock().crash();
    }

    /// Cuts the power and starts anew. What was not synced survives or not, as the seed decides.
    pub fn power_loss(&self) {
        self.machine.lock().power_loss(None);
    }

    /// Cuts the power as [`power_loss`](SimEnv::power_loss) does, with a given treatment of what was not synced.
    pub fn power_loss_with(&self, loss: PowerLoss) {
        self.machine.lock().power_loss(Some(loss));
    }

    /// How many sectors, lengths and changes of names are not durable: what a loss of power decides about.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.machine.lock().unsynced()
    }

    /// Lets `n` further mutating operations pass; then every call fails until [`crash`](SimEnv::crash) or
    /// [`power_loss`](SimEnv::power_loss). If the first operation to fail is a write, a part of it may be written.
    pub fn crash_after(&self, n: u64) {
        self.machine.lock().faults.crash_after(n);
    }

    /// Whether calls fail because the point set by [`crash_after`](SimEnv::crash_after) is past.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.machine.lock().faults.is_down()
    }

    /// The number of mutating operations so far, failed ones included.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.machine.lock().faults.ops()
    }

    /// Fails, once, the `n`-th operation of these kinds from now; 1 is the next. A fault that has not struck stays over a
    /// crash.
    pub fn fail_nth(&self, ops: &[Op], n: u64, kind: io::ErrorKind) {
        self.machine.lock().faults.add(ops, n, false, Strike::Fail(kind));
    }

    /// Fails each `n`-th operation of these kinds, until [`clear_faults`](SimEnv::clear_faults). Signals (`Interrupted`) need an
    /// `n` above 1: calls that they end are made again.
    pub fn fail_each(&self, ops: &[Op], n: u64, kind: io::ErrorKind) {
        self.machine.lock().faults.add(ops, n, true, Strike::Fail(kind));
    }

    /// Lets the system write back all that is not synced just before the `n`-th operation of these kinds from now, and fail: it
    /// gives up what it should have written. The operation itself goes on.
    pub fn fail_write_back_at(&self, ops: &[Op], n: u64, kind: io::ErrorKind) {
        self.machine.lock().faults.add(ops, n, false, Strike::WriteBack(kind));
    }

    /// Lets the system write back all that is not synced, and fail.
    pub fn fail_write_back(&self, kind: io::ErrorKind) {
        self.machine.lock().fail_write_back(kind);
    }

    /// Lets each `n`-th operation of these kinds take so long by both clocks.
    pub fn slow_each(&self, ops: &[Op], n: u64, time: Duration) {
        self.machine.lock().faults.add(ops, n, true, Strike::Take(time));
    }

    /// Lets the `n`-th operation of these kinds from now hang until what this returns is dropped. Others go on meanwhile.
    pub fn hang_nth(&self, ops: &[Op], n: u64) -> Hang {
        self.machine.lock().faults.hang_nth(ops, n)
    }

    /// Sets the size of sectors, in bytes: 512, or a multiple up to 4,096. A sector is kept or lost as a whole, or torn.
    pub fn sectors(&self, bytes: usize) {
        self.machine.lock().traits.unit = (bytes / inode::SECTOR).clamp(1, 8);
    }

    /// Sets how a full disk is told.
    pub fn space(&self, space: Space) {
        self.machine.lock().traits.space = space;
    }

    /// Sets whether files that are open for writing have maps, in which later writes show up. They have unless told otherwise.
    pub fn maps(&self, maps: bool) {
        self.machine.lock().traits.maps = maps;
    }

    /// Sets whether bytes that could not be written back go from the page cache: readers see what the disk has, old or new by
    /// chance. Otherwise they stay there and pass for written.
    pub fn drop_pages(&self, drops: bool) {
        self.machine.lock().traits.drops = drops;
    }

    /// Sets whether a write tells of earlier bytes that could not be written back, as on NFS. Otherwise only a sync does.
    pub fn tell_by_write(&self, tells: bool) {
        self.machine.lock().traits.tells_by_write = tells;
    }

    /// Limits how many files may be open at once. What would open one more fails with `EMFILE`.
    pub fn descriptors(&self, most: Option<usize>) {
        self.machine.lock().descriptors = most;
    }

    /// A digest of all operations since the machine was made or forked, of what they wrote, and of the faults that struck them.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.machine.lock().faults.trace
    }

    /// Makes the sector of 512 bytes around `offset` unreadable until it is written as a whole: reads, maps and writes that
    /// need it fail.
    pub fn spoil(&self, path: impl AsRef<Path>, offset: u64) -> io::Result<()> {
        self.machine.lock().spoil(path.as_ref(), offset)
    }

    /// Removes the faults that have not struck.
    pub fn clear_faults(&self) {
        self.machine.lock().faults.clear();
    }

    /// Limits the bytes of all files together, by their lengths; a removed file counts while it is open. What would go
    /// beyond fails with `StorageFull`; such a write may have written a part.
    pub fn quota(&self, bytes: Option<u64>) {
        self.machine.lock().quota = bytes;
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.machine.lock().faults.stats.clone()
    }

    /// Moves both clocks on. They stand still otherwise.
    pub fn advance(&self, time: Duration) {
        self.machine.lock().advance(time);
    }

    /// Sets the wall clock, which may step back.
    pub fn set_unix_ms(&self, unix_ms: i64) {
        self.machine.lock().unix_ms = unix_ms;
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.machine.lock().files()
    }

    /// A file's content as processes see it. Counts as no operation.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.machine.lock().read_file(path.as_ref())
    }

    /// Makes or replaces a file, durably, and the directories above it, whose names become durable by that. Counts as no
    /// operation.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.machine.lock().write_file(path.as_ref(), bytes.as_ref())
    }

    /// Flips the bits `xor` of one byte, in the page cache and on the disk. Its sector becomes durable by that.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, xor: u8) -> io::Result<()> {
        self.machine.lock().corrupt(path.as_ref(), offset, xor)
    }

    /// Moves a directory with all that is in it to another path, where nothing is. Handles stay with it. Counts as no
    /// operation, and what was durable stays so.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.machine.lock().rename_dir(from.as_ref(), to.as_ref())
    }
}

impl std::fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimEnv").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl Env for SimEnv {
    fn open_dir(&self, path: &Path, make: bool) -> io::Result<Arc<dyn Dir>> {
        let handle = unhindered(|| self.machine.lock().open_dir(path, make))?;
        Ok(Arc::new(SimDir { handle, path: Namespace::normal(path), machine: self.machine.clone() }))
    }

    fn unix_ms(&self) -> i64 {
        self.machine.lock().unix_ms
    }

    fn monotonic(&self) -> Duration {
        self.machine.lock().monotonic
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.faults.check()?;
        machine.entropy.fill(bytes);
        Ok(())
    }
}

/// Makes a call, again after signals, and after what made it hang.
fn unhindered<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        let done = uninterrupted(&mut call);
        match done.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<Hung>()) {
            Some(hung) => hung.wait(),
            None => return done,
        }
    }
}

/// An open directory.
struct SimDir {
    handle: DirHandle,
    path: PathBuf,
    machine: Arc<Mutex<Machine>>,
}

impl SimDir {
    /// Does something on the machine, again if a signal interrupts it.
    fn on<T>(&self, mut call: impl FnMut(&mut Machine, DirHandle) -> io::Result<T>) -> io::Result<T> {
        unhindered(|| call(&mut self.machine.lock(), self.handle))
    }

    fn file(&self, handle: OpenFile) -> Arc<dyn File> {
        Arc::new(SimFile { handle, machine: self.machine.clone() })
    }
}

impl Dir for SimDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.on(Machine::list)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.on(|machine, dir| machine.create(dir, name)).map(|handle| self.file(handle))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.on(|machine, dir| machine.open(dir, name, access)).map(|handle| self.file(handle))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.on(|machine, dir| machine.rename(dir, from, to))
    }

    fn link(&self, name: &str, into: &dyn Dir) -> io::Result<()> {
        let into: &dyn Any = into;
        let into = into.downcast_ref::<SimDir>().ok_or(io::ErrorKind::Unsupported)?;
        self.on(|machine, dir| machine.link(dir, name, into.handle))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.on(|machine, dir| machine.remove(dir, name))
    }

    fn sync(&self) -> io::Result<()> {
        self.on(Machine::sync_dir)
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(self.on(Machine::lock)?))
    }
}

/// An open file.
struct SimFile {
    handle: OpenFile,
    machine: Arc<Mutex<Machine>>,
}

impl SimFile {
    /// Does something on the machine, again if a signal interrupts it.
    fn on<T>(&self, mut call: impl FnMut(&mut Machine, &OpenFile) -> io::Result<T>) -> io::Result<T> {
        unhindered(|| call(&mut self.machine.lock(), &self.handle))
    }
}

impl File for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.on(|machine, file| machine.read(file, bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.on(|machine, file| machine.write(file, bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.on(Machine::sync)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.on(|machine, file| machine.allocate(file, len))
    }

    fn len(&self) -> io::Result<u64> {
        self.on(Machine::len)
    }

    fn map(&self) -> io::Result<Option<Bytes>> {
        if self.handle.writes() {
            return self.on(Machine::map);
        }
        self.on(Machine::read_all).map(|bytes| Some(bytes.into()))
    }
}
