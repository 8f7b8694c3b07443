//! The log: commits in arrival order, in files of a fixed size that are written once from front to back.
//!
//! ```text
//! header   4096 B  magic "chanlog\0", kind u32 = 3, format u32 = 2, store id 16 B, segment id u64, salt u64, session u64,
//!                  flags u32 (1 = commits may be acknowledged before they are durable), previous end u32 (where the
//!                  segment before ends), base version u64 (the last one before this segment), channels u32 and users u32
//!                  (names before this segment), the file's length u64, zeros to 92, crc u32 of the 92 bytes before,
//!                  zeros
//! frames   each 8-byte aligned, one for a commit
//! zeros    to the allocated length
//!
//! frame    crc u32     of store id, segment id, salt, the frame's offset, and the header after this field
//!          body crc    u32, of the same binding and of body and padding
//!          len u32     of the body, without padding
//!          kind u8     1 = commit, 3 = close, 4 = next
//!          zero u8, zero u16
//!          first u64   the version of the first versioned change
//!          durable u64 the log was known to be durable up to this offset of this file
//!          count u32   changes in the body
//!          zero u32
//!          body        commit: changes; open: 16 zeros; close and next: empty
//!          padding     zeros to a multiple of 8
//! ```
//!
//! Invariants:
//! * A file under its final name has a durable, valid header: it is made under another name and renamed.
//! * A file gets its first frame only after all earlier files are durable to their end, which its header states. So only
//!   the last file can have a torn tail.
//! * A next frame stands after the end of a file that has a durable successor. It is not synced, and counts only where the
//!   successor is missing: then that was lost.
//! * A segment is written by one session. So whether its commits may be lost without a trace is known before the first.
//! * A range of a file is written once between two opens. Readers share it only after its write returned.
//! * A checksum is bound to store, file and offset, and the salt is random: no payload can pass for a frame.

mod file;
mod frame;
mod header;
mod pages;
mod scan;

pub use file::{LogFile, SyncRight, Synced};
pub use frame::{Frame, FrameHeader, FrameKind, GAP, finish as finish_frame, start as start_frame};
pub use header::{HEADER, Header};
pub use scan::{LogSalvage, LogScan, check, salvage, scan};

/// The name of log segment `id` in a store's directory.
pub fn name(id: u64) -> String {
    format!("log-{id:016x}")
}
