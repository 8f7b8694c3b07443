//! The note by which a reader beside a writer knows how far the writer has published.
//!
//! ```text
//! session u64, segment u64, end u64 (offset in the segment), version u64, crc u32 of the 32 bytes before
//! ```
//!
//! Written in place when a writer opens the store and a few milliseconds after a publication, never synced, and never
//! needed: a note that stays torn is ignored, and so is one of another session than that of the last log segment, and any
//! where nobody writes.
//!
//! Invariant: what a later reader is shown holds what an earlier one was shown, while one writer has the store open.
//! Notes only move on, and so does what is sealed, which a reader is shown besides.

use super::disk::Disk;
use super::log::Header;
use crate::env::fault;
use crate::env::sync::Arc;
use crate::env::{Access, Dir, File};
use crate::model::codec::{Put, Reader, crc};

/// The file's name.
pub const NAME: &str = "chanlog.published";
const LEN: usize = 36;
/// So often a torn note is read.
const TRIES: usize = 8;

/// How far a writer has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The session that writes.
    pub session: u64,
    /// The log segment of the last published commit. Until the session's first one it is another session's last segment.
    pub segment: u64,
    /// Where the last published frame ends in it.
    pub end: u64,
    /// The last published version.
    pub version: u64,
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        for number in [self.session, self.segment, self.end, self.version] {
            out.put_u64(number);
        }
        let crc = crc(&[&out]);
        out.put_u32(crc);
        out
    }

    fn decode(bytes: &[u8; LEN]) -> Option<Note> {
        let mut r = Reader::new(bytes);
        let note = Note { session: r.u64()?, segment: r.u64()?, end: r.u64()?, version: r.u64()? };
        (crc(&[&bytes[..LEN - 4]]) == r.u32()?).then_some(note)
    }

    /// The note in a directory, if there is a whole one. A torn one is read again: the writer may be at work on it.
    pub fn read(disk: &Disk) -> Option<Note> {
        let file = disk.open(NAME, Access::Read).ok()?;
        (0..TRIES).find_map(|_| {
            let mut bytes = [0; LEN];
            file.read_at(&mut bytes, 0).ok()?;
            Note::decode(&bytes)
        })
    }

    /// Up to where commits of a log segment are published, `u64::MAX` for all of it, `None` if none is. `last` is the session
    /// of the last log segment: a note of an earlier session is void as soon as that one writes.
    pub fn upto(&self, header: &Header, last: u64) -> Option<u64> {
        if self.segment > header.segment || last != self.session {
            return Some(u64::MAX);
        }
        match (self.segment == header.segment, header.session == self.session) {
            (true, true) => Some(if fault(61) { u64::MAX } else { self.end }),
            // All of an earlier session's log counts once another one is at work.
            (true, false) => Some(u64::MAX),
            (false, _) => None,
        }
    }
}

/// Writes notes.
#[derive(Default)]
pub struct NoteWriter {
    file: Option<Arc<dyn File>>,
    last: Option<Note>,
}

impl NoteWriter {
    /// Writes a note if it says something new. A failure means that readers see a little less.
    pub fn write(&mut self, disk: &Disk, note: Note) {
        if self.last == Some(note) {
            return;
        }
        if self.file.is_none() {
            self.file = disk.create(NAME).ok();
        }
        let written = self.file.as_ref().map(|file| file.write_at(&note.encode(), 0));
        if written.is_some_and(|written| written.is_ok()) {
            self.last = Some(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_round_trips_and_a_torn_one_is_none() {
        let note = Note { session: 1, segment: 2, end: 4096, version: 9 };
        let bytes: [u8; LEN] = note.encode().try_into().unwrap();
        assert_eq!(Note::decode(&bytes), Some(note));
        for bit in 0..LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Note::decode(&bad), None, "bit {bit}");
        }
    }
}
