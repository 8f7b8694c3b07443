//! Memory maps: the only unsafe code here.
//!
//! A mapped file is never truncated while it is mapped: log segments keep their length until they are removed, sealed
//! files never change, and a removed file stays until its last mapping goes. The directory is private (0700) and locked,
//! so that no other well-behaved process touches it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
#[cfg(any(test, feature = "sim"))]
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// Maps the whole of `file` read-only.
///
/// Bytes that are written to the file later show up in the map, as both share the page cache. The log relies on it: it
/// hands out only ranges whose write has returned, and a range is written once before it is handed out.
pub fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the file is not truncated while mapped (see the module's head), so no access faults. Ranges that callers
    // read are not written any more once they are handed out, so that the bytes behind a shared slice never change.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// A file without a name, in memory, whose maps show what is put there later: for a disk that is simulated.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug)]
pub struct Shared {
    file: File,
    len: u64,
}

#[cfg(any(test, feature = "sim"))]
impl Shared {
    /// One of that many zeros. It keeps its length.
    pub fn new(len: u64) -> io::Result<Shared> {
        let file = File::from(rustix::fs::memfd_create("chanlog", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.set_len(len)?;
        Ok(Shared { file, len })
    }

    /// Puts bytes at `offset`, as far as they are within its length.
    pub fn put(&self, bytes: &[u8], offset: u64) {
        let room = self.len.saturating_sub(offset).min(bytes.len() as u64) as usize;
        // Memory takes what is within its length.
        let _ = self.file.write_all_at(&bytes[..room], offset);
    }

    /// The whole of it.
    pub fn map(&self) -> io::Result<Bytes> {
        map(&self.file)
    }
}
