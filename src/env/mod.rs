//! The one way to the outside: files, clocks, randomness. Everything above goes through [`Env`] and [`File`], so that a
//! simulated disk can stand in for the real one.

mod map;
mod os;
#[cfg(any(test, feature = "sim"))]
mod sim;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use os::OsEnv;
#[cfg(any(test, feature = "sim"))]
pub use sim::{Loss, Op, SimEnv, Stats};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading only.
    Read,
    /// For reading and writing.
    Write,
}

/// A file system, clocks and a source of randomness.
///
/// An implementation promises what a POSIX file system does, and no more: bytes are durable after [`File::sync`], names
/// after [`Env::sync_dir`], a rename is atomic, and after a failed sync nothing is known.
pub trait Env: Send + Sync + 'static {
    /// Makes a directory, mode 0700, and those above it. An existing one is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a new file, mode 0600, open for writing. An existing one of that name is emptied first.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing regular file; a symbolic link is refused.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, atomically, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Whoever has it open or mapped keeps it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a file, made if need be, until the guard goes. `WouldBlock` when it is taken.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> i64;
    /// A clock that never steps back, from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Names the running system: it changes exactly when unsynced bytes may have been lost. `None` if it can't be told.
    fn boot(&self) -> Option<[u8; 16]>;
    /// Fills a buffer with random bytes.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;
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
