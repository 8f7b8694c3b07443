//! Memory maps: the only unsafe code here.
//!
//! A mapped file is never truncated while it is mapped: log segments keep their length until they are removed, sealed
//! files never change, and a removed file stays until its last mapping goes. The directory is private (0700) and locked,
//! so that no other well-behaved process touches it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

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
