//! Reading a log segment from front to back, and telling a torn tail from corruption.

use super::file::LogFile;
use super::frame::{self, ALIGN, Frame, FrameKind};
use super::header::{FIELDS, HEADER};
use crate::env::fault;
use crate::error::Result;

/// What a scan found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogScan {
    /// Where the last whole frame ends.
    pub end: u64,
    /// The greatest offset that some frame says is durable.
    pub durable: u64,
    /// Whether the last frame is a close.
    pub closed: bool,
    /// Whether the last frame says that another segment follows.
    pub followed: bool,
    /// How many commits there are.
    pub commits: u64,
    /// How far after the end there are bytes that are not zero.
    pub torn: u64,
}

/// Visits each frame of a segment.
///
/// `end` is where the segment is known to end, from the header of the next one; `None` for the last segment, where the
/// frames end at a torn tail or in zeros. An invalid frame is corruption if bytes after it were ever known to be durable:
/// if some valid frame, before it or after it, says so. Otherwise it is a write that a crash cut off.
pub fn scan(
    log: &LogFile,
    bytes: &[u8],
    end: Option<u64>,
    visit: &mut dyn FnMut(&Frame<'_>) -> Result<()>,
) -> Result<LogScan> {
    let mut scan = LogScan { end: HEADER, durable: HEADER, ..LogScan::default() };
    // After a known end may lie whole frames of a write that found the disk full: nobody was told that they count.
    while (end.is_none_or(|end| scan.end < end) || fault(36))
        && let Some(frame) = frame::read(bytes, scan.end, &log.binding)
    {
        visit(&frame)?;
        scan.note(&frame);
    }
    if end.is_some_and(|end| scan.end > end) {
        return Err(log.corrupt(scan.end, "a frame reaches beyond the segment's end"));
    }
    // A close vouches for all before it, and nothing comes after it. Its segment is not written any more.
    if !scan.closed && end.is_none() {
        scan.torn = if fault(5) { 0 } else { nonzero(&bytes[scan.end as usize..]) as u64 };
    }
    let durable = end.unwrap_or_else(|| scan.durable.max(durable_after(log, bytes, &scan)));
    if scan.end < durable && !fault(32) {
        return Err(log.corrupt(scan.end, format!("no valid frame, though durable up to {durable}")));
    }
    Ok(scan)
}

/// What a segment that is damaged holds.
pub struct LogSalvage {
    /// What a scan of its whole frames finds.
    pub scan: LogScan,
    /// Where bytes begin that are no frame and should be one.
    pub holes: Vec<u64>,
    /// Whether it ends with such bytes.
    pub open: bool,
}

/// Visits each whole frame of a segment that is damaged, whatever lies between them.
pub fn salvage(
    log: &LogFile,
    bytes: &[u8],
    end: Option<u64>,
    visit: &mut dyn FnMut(&Frame<'_>),
) -> LogSalvage {
    let mut scan = LogScan { end: HEADER, durable: HEADER, ..LogScan::default() };
    let (mut holes, mut at, mut whole) = (Vec::new(), HEADER, true);
    let limit = end.unwrap_or(HEADER + nonzero(&bytes[HEADER as usize..]) as u64);
    while at < limit {
        match frame::read(bytes, at, &log.binding) {
            Some(frame) => {
                visit(&frame);
                scan.note(&frame);
                (at, whole) = (frame.end, true);
            }
            None => {
                if std::mem::take(&mut whole) {
                    holes.push(at);
                }
                at += ALIGN as u64;
            }
        }
    }
    // What comes last may be a write that a crash cut off.
    let torn = !whole && end.is_none() && scan.end >= scan.durable;
    if torn {
        holes.pop();
    }
    LogSalvage { scan, holes, open: !whole && !torn }
}

/// Checks every byte of a segment that has a meaning: its header and its frames.
pub fn check(log: &LogFile, end: Option<u64>) -> Result<()> {
    let bytes = log.read_all()?;
    if let Some(at) = bytes[FIELDS..HEADER as usize].iter().position(|byte| *byte != 0) {
        return Err(log.corrupt((FIELDS + at) as u64, "the header is not followed by zeros"));
    }
    scan(log, &bytes, end, &mut |_| Ok(())).map(drop)
}

impl LogScan {
    fn note(&mut self, frame: &Frame<'_>) {
        self.end = frame.end;
        self.durable = self.durable.max(frame.header.durable);
        self.closed = frame.header.kind == FrameKind::Close;
        self.followed = frame.header.kind == FrameKind::Next;
        self.commits += u64::from(frame.header.kind == FrameKind::Commit);
    }
}

/// The length of `bytes` without the zeros at their end.
fn nonzero(bytes: &[u8]) -> usize {
    const CHUNK: usize = 4096;
    let full = |chunk: &&[u8]| chunk.iter().fold(0, |any, byte| any | byte) != 0;
    let zeros = bytes.chunks(CHUNK).rev().take_while(|chunk| !full(chunk)).count();
    let chunks = bytes.len().div_ceil(CHUNK) - zeros;
    let rest = &bytes[..(chunks * CHUNK).min(bytes.len())];
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The greatest durable mark of the valid frames after the scan's end, where no frame begins.
fn durable_after(log: &LogFile, bytes: &[u8], scan: &LogScan) -> u64 {
    let mut durable = 0;
    let mut at = scan.end + ALIGN as u64;
    while at < scan.end + scan.torn {
        match frame::read(bytes, at, &log.binding) {
            Some(frame) => {
                durable = durable.max(frame.header.durable);
                at = frame.end;
            }
            None => at += ALIGN as u64,
        }
    }
    durable
}
