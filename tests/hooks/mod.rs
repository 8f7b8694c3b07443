//! A simulated disk with a hook before each operation, a gate at which threads stop, and what tests of faults share.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chanlog::env::{Access, Advice, Dir, Env, File, Op as Disk, SimEnv};
use chanlog::{Batch, Draft, Durability, Options, Result, Store};

pub const DIR: &str = "/store";

/// Called before an operation on the file of a name; empty for the directory itself. An error takes the operation's place.
type Hook = dyn Fn(Disk, &str) -> io::Result<()> + Send + Sync;

/// A simulated disk with a hook before each operation. A file has the name under which it was opened or made.
pub struct Hooked {
    sim: Arc<SimEnv>,
    hook: Arc<Hook>,
}

impl Hooked {
    pub fn new(
        sim: &Arc<SimEnv>,
        hook: impl Fn(Disk, &str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Hooked { sim: sim.clone(), hook: Arc::new(hook) })
    }
}

impl Env for Hooked {
    fn open_dir(&self, path: &Path, make: bool) -> io::Result<Arc<dyn Dir>> {
        let dir = self.sim.open_dir(path, make)?;
        Ok(Arc::new(HookedDir { dir, hook: self.hook.clone() }))
    }

    fn unix_ms(&self) -> i64 {
        self.sim.unix_ms()
    }

    fn monotonic(&self) -> Duration {
        self.sim.monotonic()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.sim.random(bytes)
    }
}

struct HookedDir {
    dir: Arc<dyn Dir>,
    hook: Arc<Hook>,
}

impl HookedDir {
    fn file(&self, name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HookedFile { file, name: name.into(), hook: self.hook.clone() })
    }
}

impl Dir for HookedDir {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        (self.hook)(Disk::List, "")?;
        self.dir.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        (self.hook)(Disk::Create, name)?;
        Ok(self.file(name, self.dir.create(name)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        (self.hook)(Disk::Open, name)?;
        Ok(self.file(name, self.dir.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.hook)(Disk::Rename, to)?;
        self.dir.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)(Disk::Remove, name)?;
        self.dir.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        (self.hook)(Disk::SyncDir, "")?;
        self.dir.sync()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        (self.hook)(Disk::Lock, "")?;
        self.dir.lock()
    }
}

struct HookedFile {
    file: Arc<dyn File>,
    name: String,
    hook: Arc<Hook>,
}

impl HookedFile {
    fn before(&self, op: Disk) -> io::Result<&Arc<dyn File>> {
        (self.hook)(op, &self.name)?;
        Ok(&self.file)
    }
}

impl File for HookedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.before(Disk::Read)?.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.before(Disk::Write)?.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.before(Disk::Sync)?.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.before(Disk::Allocate)?.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn map(&self) -> io::Result<Option<Bytes>> {
        self.before(Disk::Read)?.map()
    }

    fn advise(&self, advice: Advice) {
        self.file.advise(advice);
    }
}

/// A gate at which threads stop while it is shut.
#[derive(Default)]
pub struct Gate {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    shut: bool,
    came: usize,
}

impl Gate {
    /// Stops everybody who comes from now on.
    pub fn shut(&self) {
        let mut state = self.state.lock().unwrap();
        (state.shut, state.came) = (true, 0);
    }

    /// Lets everybody pass from now on.
    pub fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    /// Stops the caller while the gate is shut.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.shut {
            state.came += 1;
            self.changed.notify_all();
        }
        drop(self.changed.wait_while(state, |state| state.shut).unwrap());
    }

    /// Waits until somebody was stopped.
    pub fn wait_for_one(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.came == 0).unwrap());
    }
}

/// A simulated disk on which syncs of files whose names begin so stop at a gate.
pub fn gated(sim: &Arc<SimEnv>, gate: &Arc<Gate>, prefix: &'static str) -> Arc<Hooked> {
    let gate = gate.clone();
    Hooked::new(sim, move |op, name| {
        if op == Disk::Sync && name.starts_with(prefix) {
            gate.pass();
        }
        Ok(())
    })
}

/// Time enough for another thread to come to where it must wait. One that need not wait is not hurt by it.
pub fn a_moment() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Waits until so many commits are prepared and wait for the writer, whom something holds up.
pub fn wait_for_queued(store: &Store, commits: u64) {
    wait_until(|| store.stat().unwrap().queues.unwritten >= commits);
}

/// Waits until something is so, however long others keep the machine.
pub fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

pub fn options(env: Arc<dyn Env>) -> Options {
    Options::new().env(env).log_segment(8 << 10).background(false)
}

/// Appends a message, and returns its seq.
pub fn append(store: &Store, channel: &str, text: &str, durability: Durability) -> Result<u64> {
    let mut batch = Batch::new();
    batch.append(channel, Draft::new("u", 0, text.to_owned())).durability(durability);
    Ok(store.commit(&batch)?.outcomes()[0].seq().unwrap())
}

/// A text that does not fit the log segments of [`options`], so that the log goes on in another one.
pub fn long() -> String {
    "x".repeat(9000)
}

/// The texts of a channel by seq.
pub fn texts(store: &Store, channel: &str) -> BTreeMap<u64, String> {
    let text = |message: &chanlog::Message| String::from_utf8(message.payload.to_vec()).unwrap();
    store.history(channel).list().unwrap().iter().map(|message| (message.seq, text(message))).collect()
}

/// Ends the process without a close.
pub fn kill(sim: &SimEnv, store: Store) {
    sim.crash_after(0);
    drop(store);
    sim.crash();
}

/// The files of a kind, oldest first.
pub fn files(sim: &SimEnv, prefix: &str) -> Vec<PathBuf> {
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
    sim.files().into_iter().filter(named).collect()
}

/// Everything on the disk.
pub fn content(sim: &SimEnv) -> BTreeMap<PathBuf, Vec<u8>> {
    sim.files().into_iter().map(|path| (path.clone(), sim.read_file(path).unwrap())).collect()
}

/// Bytes that nothing compresses, the same for the same number.
pub fn noise(number: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| {
        let z = (number << 32 | at).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) as u8
    };
    (0..len as u64).map(byte).collect()
}
