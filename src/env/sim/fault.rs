//! What goes wrong on purpose, and the counts of what happened. Owns the order in which an operation is admitted: first
//! whether the machine is up, then the count, then the faults.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

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

#[derive(Clone, Debug)]
struct Fault {
    ops: Vec<Op>,
    /// How many matching operations until it strikes.
    left: u64,
    kind: io::ErrorKind,
}

/// The faults to come, and the counts.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
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

    /// Counts an operation and fails it if it is its turn.
    pub fn admit(&mut self, op: Op) -> io::Result<()> {
        self.check()?;
        if op.mutates() {
            if self.left == Some(0) {
                self.down = true;
                return Err(down());
            }
            self.left = self.left.map(|left| left - 1);
            self.ops += 1;
        }
        *self.stats.counts.entry(op).or_default() += 1;
        match self.strike(op) {
            Some(kind) => Err(io::Error::new(kind, format!("injected fault: {op:?}"))),
            None => Ok(()),
        }
    }

    /// Counts down the faults that match; those that strike are spent. The oldest of them decides.
    fn strike(&mut self, op: Op) -> Option<io::ErrorKind> {
        for fault in self.faults.iter_mut().filter(|fault| fault.ops.contains(&op)) {
            fault.left -= 1;
        }
        let kind = self.faults.iter().find(|fault| fault.left == 0).map(|fault| fault.kind);
        self.faults.retain(|fault| fault.left > 0);
        kind
    }

    /// Adds a fault.
    pub fn fail_nth(&mut self, ops: &[Op], n: u64, kind: io::ErrorKind) {
        self.faults.push(Fault { ops: ops.into(), left: n.max(1), kind });
    }

    /// Removes all faults that have not struck.
    pub fn clear(&mut self) {
        self.faults.clear();
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
