//! The note by which a reader beside a writer knows how far the writer has published.
//!
//! ```text
//! session u64, segment u64, end u64 (offset in the segment), version u64, crc u32 of the 32 bytes before
//! ```
//!
//! Written in place a few milliseconds after a publication, never synced, and never needed: a note that is torn, of another
//! session or of a segment that is gone is ignored, and so is any note where nobody writes.

use super::disk::Disk;
use crate::env::sync::Arc;
use crate::env::{Access, Dir, File};
use crate::model::codec::{Put, Reader, crc};

/// The file's name.
pub const NAME: &str = "chanlog.published";
const LEN: usize = 36;

/// How far a writer has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The session that writes.
    pub session: u64,
    /// The active log segment.
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

    /// The note in a directory, if there is a whole one.
    pub fn read(disk: &Disk) -> Option<Note> {
        let file = disk.open(NAME, Access::Read).ok()?;
        let mut bytes = [0; LEN];
        file.read_at(&mut bytes, 0).ok()?;
        Note::decode(&bytes)
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
