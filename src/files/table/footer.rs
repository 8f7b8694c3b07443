//! The footer of a run.
//!
//! ```text
//! format u32    any other is refused
//! versions      first u64, last u64: the changes that the run covers
//! key u64       the hash of the empty name, by which a wrong hash key is noticed
//! count u16     of sections, at most 256; for each:
//!   table u8, flags u8 (1 = wide), bytes u64 (of all blocks), blocks u64, entries u64, newest version u64
//! channels      see `NamesPlace`
//! users         the same
//! ```
//!
//! Sections and names lie one after another from the file's header to the end of its content, so that a footer holds
//! lengths only and can't place two of them in the same bytes. Invariants: tables ascend; no section is empty, and none is
//! newer than the run.

use super::section::SectionPlace;
use super::{HashKey, names};
use crate::error::{Error, Result};
use crate::files::sealed::{HEADER, Sealed, TRAILER};
use crate::model::codec::{Put, Reader};

/// The format that this release writes and reads.
const FORMAT: u32 = 2;
/// How many sections there can be, as a table's number is a byte.
const MAX_SECTIONS: u16 = 256;

/// What lies where in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFooter {
    /// The first and the last version that the run covers.
    pub versions: (u64, u64),
    /// By table.
    pub sections: Vec<SectionPlace>,
    /// The names of channels.
    pub channels: names::NamesPlace,
    /// The names of users.
    pub users: names::NamesPlace,
}

impl RunFooter {
    /// The footer's bytes.
    pub fn encode(&self, key: &HashKey) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(FORMAT);
        out.put_u64(self.versions.0);
        out.put_u64(self.versions.1);
        out.put_u64(names::hash(key, b""));
        out.put_u16(self.sections.len() as u16);
        for section in &self.sections {
            section.encode(&mut out);
        }
        self.channels.encode(&mut out);
        self.users.encode(&mut out);
        out
    }

    /// Whether no section is newer than the run.
    pub fn covers(&self) -> bool {
        self.sections.iter().all(|section| section.newest <= self.versions.1)
    }

    /// Reads the footer of a file. Afterwards all sections are known to lie within its content.
    pub fn decode(file: &Sealed, key: &HashKey) -> Result<RunFooter> {
        let mut r = Reader::new(file.footer());
        let at = file.len() - TRAILER as u64 - r.remaining() as u64;
        match r.u32() {
            Some(FORMAT) => {}
            Some(version) => return Err(Error::Unsupported { file: file.path().into(), version }),
            None => return Err(file.corrupt(at, "no run's footer")),
        }
        let footer = RunFooter::decode_known(&mut r, key, file.content_end());
        footer
            .filter(|_| r.is_empty())
            .ok_or_else(|| file.corrupt(at, "the footer contradicts itself, or the hash key"))
    }

    fn decode_known(r: &mut Reader<'_>, key: &HashKey, content_end: u64) -> Option<RunFooter> {
        let versions = (r.u64()?, r.u64()?);
        let good = versions.0 <= versions.1.saturating_add(1) && r.u64()? == names::hash(key, b"");
        let count = r.u16().filter(|count| *count <= MAX_SECTIONS)?;
        let mut sections: Vec<SectionPlace> = Vec::new();
        let mut end = HEADER as u64;
        for _ in 0..count {
            let section = SectionPlace::decode(r, end)?;
            if sections.last().is_some_and(|last| last.table >= section.table) {
                return None;
            }
            end = section.end()?;
            sections.push(section);
        }
        let channels = names::NamesPlace::decode(r, end)?;
        let users = names::NamesPlace::decode(r, channels.end()?)?;
        let footer = RunFooter { versions, sections, channels, users };
        (good && footer.users.end()? == content_end && footer.covers()).then_some(footer)
    }
}
