//! The log: commits in arrival order, in files of a fixed size that are written once from front to back.
//!
//! ```text
//! header   4096 B  magic "chanlog\0", kind u32 = 3, format u32, store id 16 B, segment id u64, salt u64, base version
//!                  u64, previous end u32, the file's length u64, crc u32 of the bytes before, zeros
//! frames   each 8-byte aligned, one for a commit
//! zeros    to the allocated length
//!
//! frame    crc u32     of store id, segment id, salt, the frame's offset, and the header behind this field
//!          body crc    u32, of the same binding and of body and padding
//!          len u32     of the body, without padding
//!          kind u8     1 = commit, 2 = open, 3 = close, 4 = next
//!          flags u8    1 = buffered: acknowledged before it was synced
//!          zero u16
//!          first u64   the version of the first versioned change
//!          durable u64 the log was known to be durable up to this offset of this file
//!          count u32   changes in the body
//!          zero u32
//!          body        commit: changes; open: the boot id, 16 B, zeros if unknown; close and next: empty
//!          padding     zeros to a multiple of 8
//! ```
//!
//! Invariants:
//! * A file under its final name has a durable, valid header: it is made under another name and renamed.
//! * A file gets its first frame only after all earlier files are durable to their end, which its header states. So only
//!   the last file can have a torn tail.
//! * A next frame stands behind the end of a file that has a durable successor. It is not synced, and counts only where the
//!   successor is missing: then that was lost.
//! * A range of a file is written once between two opens. Readers share it only after its write returned.
//! * A checksum is bound to store, file and offset, and the salt is random: no payload can pass for a frame.

mod file;
mod frame;
mod scan;

pub use file::{HEADER, LogFile};
pub use frame::{Frame, FrameKind, Header as FrameHeader, finish as finish_frame, start as start_frame};
pub use scan::{Scan, check, scan};

use std::path::{Path, PathBuf};

/// The path of log segment `id`.
pub fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("log-{id:016x}"))
}
