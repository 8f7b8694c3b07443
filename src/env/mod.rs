//! The one way to the outside: files, clocks, randomness, threads. Everything above goes through [`Env`], [`Dir`] and
//! [`File`], so that a simulated disk can stand in for the real one.
//!
//! A path is resolved once, by [`Env::open_dir`]. All files are reached through the handle that it returns, by names
//! without a slash: neither a change of the working directory nor a rename of the directory leads anywhere else.

mod deliberate;
mod map;
mod os;
#[cfg(any(test, feature = "sim"))]
mod sim;
#[cfg_attr(shuttle, path = "sync_shuttle.rs")]
pub(crate) mod sync;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use deliberate::{fault, skip, unless};
pub use os::OsEnv;
#[cfg(any(test, feature = "sim"))]
pub use sim::{Hang, Op, PowerLoss, SimEnv, Space, Stats};
use sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading only.
    Read,
    /// For reading and writing.
    Write,
}

/// How a file will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Here and there: what lies around a place need not be read with it.
    Random,
    /// From front to back: what comes next is better read ahead.
    Sequential,
}

/// A file system, clocks, a source of randomness and threads.
///
/// An implementation promises what a POSIX file system does, and no more: bytes are durable after [`File::sync`], names
/// after [`Dir::sync`], a rename is atomic, and after a failed sync nothing is known. No call ends with `Interrupted`: what
/// a signal interrupts is tried again inside.
pub trait Env: Send + Sync + 'static {
    /// Opens a directory once; everything in it is reached through the handle. With `make`, it and those above it are made
    /// (mode 0700) if absent, and the path to it is durable when this returns; directories above that may not be read
    /// are not synced, as whoever can't read one made nothing in it. If that fails, what was made is removed again.
    /// Without `make`, `NotFound` if it is absent.
    fn open_dir(&self, path: &Path, make: bool) -> io::Result<Arc<dyn Dir>>;
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> i64;
    /// A clock that never steps back, from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Fills a buffer with random bytes.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;
    /// Starts a thread.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Thread>> {
        sync::spawn(name, work)
    }
}

/// A thread that was started by [`Env::spawn`]. It goes on if this is dropped.
pub trait Thread: Send {
    /// Waits until the thread has ended, by a panic or otherwise.
    fn join(self: Box<Self>);
}

/// An open directory. It stays the same one whatever its path leads to later.
///
/// Names are those of entries of this very directory: one that is empty, `.`, `..` or has a slash in it is `InvalidInput`.
pub trait Dir: Any + Send + Sync {
    /// The absolute path at the time of opening, for messages only.
    fn path(&self) -> &Path;
    /// The names in it.
    fn list(&self) -> io::Result<Vec<OsString>>;
    /// Makes a new file, mode 0600, open for writing. An existing one of that name is emptied first; a symbolic link is
    /// refused.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing regular file; anything else is refused, a symbolic link too.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, atomically, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file of this directory a name in another one too, of the same file system: two names for one file. What has
    /// the name there already is `AlreadyExists`; where it can't be done, any other error.
    fn link(&self, _name: &str, _into: &dyn Dir) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file. Whoever has it open or mapped keeps it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes its names durable.
    fn sync(&self) -> io::Result<()>;
    /// Locks the directory itself, exclusively, until the guard goes. `WouldBlock` when it is taken, through this handle or
    /// any other, in this process or another one.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file. All offsets are in bytes from its start; calls may come from many threads at once.
pub trait File: Send + Sync {
    /// Reads at `offset` until `bytes` is full. `UnexpectedEof` when the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Reserves space, so that the file is `len` bytes long and later writes below `len` need no metadata.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The whole file as memory. Later writes to the file show up in it; `None` if this file can't do that.
    fn map(&self) -> io::Result<Option<Bytes>>;
    /// How the file or its map will be read from now on. A hint, which may do nothing.
    fn advise(&self, _advice: Advice) {}
}

/// Reads the whole of a file that is at most `limit` bytes long.
pub(crate) fn read_all(file: &dyn File, limit: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes, more than {limit}")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Refuses a name that leads out of its directory.
fn check_name(name: &str) -> io::Result<()> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} names no file")));
    }
    Ok(())
}

/// Makes a call again for as long as signals interrupt it.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
