//! What goes wrong on purpose, and the counts of what happened. Owns the order in which an operation is admitted: first
//! whether the machine is up, then the count, then the faults.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::env::sync::{Arc, Condvar, Mutex};

/// A kind of operation on the simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// [`Env::open_dir`](crate::env::Env::open_dir) that may make the directory.
    CreateDir,
    /// [`Dir::list`](crate::env::Dir::list).
    List,
    /// [`Dir::create`](crate::env::Dir::create).
    Create,
    /// [`Dir::open`](crate::env::Dir::open).
    Open,
    /// [`Dir::rename`](crate::env::Dir::rename).
    Rename,
    /// [`Dir::link`](crate::env::Dir::link).
    Link,
    /// [`Dir::remove`](crate::env::Dir::remove).
    Remove,
    /// [`Dir::sync`](crate::env::Dir::sync), and that of each directory above one that may be made.
    SyncDir,
    /// [`Dir::lock`](crate::env::Dir::lock).
    Lock,
    /// [`File::read_at`](crate::env::File::read_at) and [`File::map`](crate::env::File::map).
    Read,
    /// [`File::write_at`](crate::env::File::write_at).
    Write,
    /// [`File::sync`](crate::env::File::sync).
    Sync,
    /// [`File::allocate`](crate::env::File::allocate).
    Allocate,
}

impl Op {
    /// Every kind.
    pub const ALL: [Op; 13] = [
        Op::CreateDir,
        Op::List,
        Op::Create,
        Op::Open,
        Op::Rename,
        Op::Link,
        Op::Remove,
        Op::SyncDir,
        Op::Lock,
        Op::Read,
        Op::Write,
        Op::Sync,
        Op::Allocate,
    ];

    /// Whether it may change what a process or the disk holds.
    pub fn mutates(self) -> bool {
        !matches!(self, Op::List | Op::Open | Op::Lock | Op::Read)
    }
}

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    counts: BTreeMap<Op, u64>,
    /// The bytes read, maps included.
    pub bytes_read: u64,
    /// The bytes written, those of failed writes included as far as they got.
    pub bytes_written: u64,
    /// The bytes written to each file, by the path under which it was opened.
    pub files: BTreeMap<PathBuf, u64>,
}

impl Stats {
    /// How many operations of a kind were attempted.
    pub fn count(&self, op: Op) -> u64 {
        self.counts.get(&op).copied().unwrap_or(0)
    }

    pub(super) fn wrote(&mut self, path: &Path, len: u64) {
        self.bytes_written += len;
        match self.files.get_mut(path) {
            Some(bytes) => *bytes += len,
            None => drop(self.files.insert(path.into(), len)),
        }
    }
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Strike {
    /// It fails.
    Fail(io::ErrorKind),
    /// It goes well, but the system was at work on what was written before, and failed.
    WriteBack(io::ErrorKind),
    /// It goes well, and takes that long by the machine's clocks.
    Take(Duration),
}

#[derive(Clone, Debug)]
struct Fault {
    ops: Vec<Op>,
    /// How many matching operations until it strikes.
    left: u64,
    /// After how many more it strikes again, if it does.
    every: Option<u64>,
    strike: Strike,
}

/// An operation that does not come back for as long as this is held: see [`SimEnv::hang_nth`](super::SimEnv::hang_nth).
#[derive(Debug)]
pub struct Hang(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    reached: bool,
    open: bool,
}

impl Gate {
    fn set(&self, set: impl FnOnce(&mut GateState)) {
        set(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn wait_for(&self, done: impl Fn(&GateState) -> bool) {
        let mut state = self.state.lock();
        while !done(&state) {
            self.changed.wait(&mut state);
        }
    }
}

impl Hang {
    /// Waits until an operation hangs.
    pub fn wait(&self) {
        self.0.wait_for(|state| state.reached);
    }
}

impl Drop for Hang {
    /// Lets the operation go on.
    fn drop(&mut self) {
        self.0.set(|state| state.open = true);
    }
}

/// Why an operation was not admitted yet: it has to wait, without the machine's lock.
#[derive(Debug)]
pub struct Hung(Arc<Gate>);

impl Hung {
    /// Waits as long as it takes.
    pub fn wait(&self) {
        self.0.set(|state| state.reached = true);
        self.0.wait_for(|state| state.open);
    }
}

impl std::fmt::Display for Hung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the operation hangs")
    }
}

impl std::error::Error for Hung {}

/// The faults to come, and the counts.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    /// Operations that will hang: which, and how many matching ones until then.
    hangs: Vec<(Vec<Op>, u64, Arc<Gate>)>,
    /// A digest of all operations and how they went.
    pub trace: u64,
    /// How many mutating operations until the crash.
    left: Option<u64>,
    down: bool,
    ops: u64,
    pub stats: Stats,
}

impl Faults {
    /// Fails if the machine is down.
    pub fn check(&self) -> io::Result<()> {
        if self.down { Err(down()) } else { Ok(()) }
    }

    /// Whether the machine is down.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// The number of mutating operations that were attempted while the machine was up.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// Counts an operation, and tells what becomes of it if it is its turn.
    pub fn admit(&mut self, op: Op) -> io::Result<Option<Strike>> {
        self.check()?;
        if let Some(gate) = self.hang(op) {
            return Err(io::Error::other(Hung(gate)));
        }
        self.note(&[op as u64]);
        if op.mutates() {
            if self.left == Some(0) {
                self.down = true;
                return Err(down());
            }
            self.left = self.left.map(|left| left - 1);
            self.ops += 1;
        }
        *self.stats.counts.entry(op).or_default() += 1;
        Ok(self.strike(op))
    }

    /// Adds numbers to the digest.
    pub fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.trace = (self.trace.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// The gate at which an operation hangs, if it is its turn.
    fn hang(&mut self, op: Op) -> Option<Arc<Gate>> {
        self.hangs.iter_mut().filter(|hang| hang.0.contains(&op)).for_each(|hang| hang.1 -= 1);
        let at = self.hangs.iter().position(|hang| hang.1 == 0)?;
        Some(self.hangs.swap_remove(at).2)
    }

    /// Counts down the faults that match; those that strike are spent, or begin anew. The oldest of them decides.
    fn strike(&mut self, op: Op) -> Option<Strike> {
        for fault in self.faults.iter_mut().filter(|fault| fault.ops.contains(&op)) {
            fault.left -= 1;
        }
        let strike = self.faults.iter().find(|fault| fault.left == 0).map(|fault| fault.strike);
        for fault in self.faults.iter_mut().filter(|fault| fault.left == 0) {
            fault.left = fault.every.unwrap_or(0);
        }
        self.faults.retain(|fault| fault.left > 0);
        strike
    }

    /// Adds a fault of the `n`-th operation of these kinds, or of each `n`-th.
    pub fn add(&mut self, ops: &[Op], n: u64, each: bool, strike: Strike) {
        let left = n.max(1);
        self.faults.push(Fault { ops: ops.into(), left, every: each.then_some(left), strike });
    }

    /// Lets the `n`-th operation of these kinds hang.
    pub fn hang_nth(&mut self, ops: &[Op], n: u64) -> Hang {
        let gate = Arc::new(Gate::default());
        self.hangs.push((ops.into(), n.max(1), gate.clone()));
        Hang(gate)
    }

    /// Removes all faults that have not struck.
    pub fn clear(&mut self) {
        self.faults.clear();
        self.hangs.clear();
    }

    /// Sets the crash.
    pub fn crash_after(&mut self, n: u64) {
        self.left = Some(n);
    }

    /// Starts the machine again.
    pub fn restart(&mut self) {
        self.left = None;
        self.down = false;
    }
}

fn down() -> io::Error {
    io::Error::other("the simulated process has crashed")
}
